"""Play a bag into the node, with RViz: ros2 launch sembox_ros replay.launch.py bag:=DRIVE image:=/camera/image_raw.

Everything ends when the bag does, when the node does, or when RViz is closed. All arguments of sembox.launch.py hold.
"""

import shlex
from pathlib import Path

from ament_index_python.packages import get_package_share_directory
from launch.actions import (
    DeclareLaunchArgument,
    ExecuteProcess,
    IncludeLaunchDescription,
    OpaqueFunction,
    RegisterEventHandler,
    Shutdown,
    UnregisterEventHandler,
)
from launch.event_handlers import OnProcessExit, OnProcessIO
from launch.events.process import ProcessIO
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import SetParameter

from launch import Action, LaunchContext, LaunchDescription

CLOCK_HZ = '100'
DELAY_S = '2'  # for the node to find the player's topics: what is played before that is lost


def create_player(context: LaunchContext) -> list[ExecuteProcess]:
    """`ros2 bag play`, as the launch arguments ask for it."""
    bag, rate, loop, more = (LaunchConfiguration(n).perform(context) for n in ('bag', 'rate', 'loop', 'play_args'))
    command = ['ros2', 'bag', 'play', bag, '--clock', CLOCK_HZ, '--rate', rate, '--delay', DELAY_S]
    command += ['--loop'] if loop == 'true' else []
    return [ExecuteProcess(cmd=command + shlex.split(more), output='screen')]


def create_starter() -> OnProcessIO:
    """Starts the player when the node says that it is active, for engines may have to be measured before.

    The node says so at the log level info, so `log_level` must not be higher.
    """

    def listen(event: ProcessIO) -> list[Action] | None:
        if not event.process_name.startswith('sembox_node') or b'active; ' not in event.text:
            return None
        return [UnregisterEventHandler(starter), OpaqueFunction(function=create_player)]

    starter = OnProcessIO(on_stdout=listen, on_stderr=listen)
    return starter


def generate_launch_description() -> LaunchDescription:
    """The node of sembox.launch.py with the time of the bag, and the player."""
    node = Path(get_package_share_directory('sembox_ros')) / 'launch' / 'sembox.launch.py'
    return LaunchDescription(
        [
            DeclareLaunchArgument('bag', description='Bag to play, as `ros2 bag play` takes it'),
            DeclareLaunchArgument('rate', default_value='1.0', description='Rate of playing; 2.0 is twice as fast'),
            DeclareLaunchArgument(
                'loop', default_value='false', choices=['true', 'false'], description='Begin anew when the bag ends'
            ),
            DeclareLaunchArgument(
                'play_args',
                default_value='',
                description='More arguments for `ros2 bag play`, such as "--remap /cam0/image_raw:=/front/image"',
            ),
            DeclareLaunchArgument(
                'rviz', default_value='true', choices=['true', 'false'], description='Also start RViz on the outputs'
            ),
            SetParameter(name='use_sim_time', value=True),
            RegisterEventHandler(create_starter()),
            RegisterEventHandler(OnProcessExit(on_exit=[Shutdown()])),
            IncludeLaunchDescription(PythonLaunchDescriptionSource(str(node))),
        ]
    )
