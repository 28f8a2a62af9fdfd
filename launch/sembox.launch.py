"""Start the node `sembox`: ros2 launch sembox_ros sembox.launch.py image:=/camera/image_raw."""

from pathlib import Path

from ament_index_python.packages import get_package_share_directory
from launch.actions import DeclareLaunchArgument, OpaqueFunction, SetEnvironmentVariable
from launch.conditions import IfCondition
from launch.substitutions import EqualsSubstitution, LaunchConfiguration
from launch_ros.actions import Node, PushROSNamespace
from launch_ros.parameter_descriptions import ParameterFile

from launch import LaunchContext, LaunchDescription

FROM_PARAMS_FILE = ''  # an argument left at this leaves the parameter to the file


def create_node(context: LaunchContext) -> list[Node]:
    """The node, with those parameters on top of the file that were given as launch arguments."""
    given = {name: LaunchConfiguration(name).perform(context) for name in ('checkpoint', 'device', 'engine', 'cameras')}
    changed: dict[str, str | list[str]] = {name: text for name, text in given.items() if text != FROM_PARAMS_FILE}
    if 'cameras' in changed:
        changed['cameras'] = [name.strip() for name in given['cameras'].split(',')]
    return [
        Node(
            package='sembox_ros',
            executable='sembox_node',
            name='sembox',
            output='screen',
            parameters=[
                ParameterFile(LaunchConfiguration('params_file'), allow_substs=False),
                changed,
            ],
            remappings=[('image', LaunchConfiguration('image'))],
            arguments=['--ros-args', '--log-level', LaunchConfiguration('log_level')],
        )
    ]


def generate_launch_description() -> LaunchDescription:
    """One node, and RViz where it is asked for."""
    config = Path(get_package_share_directory('sembox_ros')) / 'config'
    argument = LaunchConfiguration
    arguments = [
        DeclareLaunchArgument(
            'image',
            default_value='image',
            description='Image topic (raw or compressed) to look at; without meaning where there are named cameras',
        ),
        DeclareLaunchArgument(
            'cameras',
            default_value=FROM_PARAMS_FILE,
            description='Names of cameras, with commas; each has its <camera>/image; empty: as the params file says',
        ),
        DeclareLaunchArgument('namespace', default_value='', description='Namespace of the node and its topics'),
        DeclareLaunchArgument(
            'checkpoint',
            default_value=FROM_PARAMS_FILE,
            description='Checkpoint file (.safetensors); empty: as the params file says, else the bundled one',
        ),
        DeclareLaunchArgument(
            'device',
            default_value=FROM_PARAMS_FILE,
            description='auto, cpu, cuda or cuda:N; empty: as the params file says',
        ),
        DeclareLaunchArgument(
            'engine',
            default_value=FROM_PARAMS_FILE,
            description='auto, torch, onnxruntime or openvino; empty: as the params file says',
        ),
        DeclareLaunchArgument(
            'params_file',
            default_value=str(config / 'sembox_node.yaml'),
            description='YAML file with node parameters',
        ),
        DeclareLaunchArgument(
            'rviz', default_value='false', choices=['true', 'false'], description='Also start RViz on the outputs'
        ),
        DeclareLaunchArgument(
            'transport',
            default_value='shared_memory',
            choices=['shared_memory', 'default'],
            description='shared_memory: Fast DDS with room for whole images (config/fastdds.xml); default: as it comes',
        ),
        DeclareLaunchArgument(
            'log_level',
            default_value='info',
            choices=['debug', 'info', 'warn', 'error', 'fatal'],
            description='Least severity that the node logs',
        ),
    ]
    rviz = Node(
        package='rviz2',
        executable='rviz2',
        arguments=['-d', str(config / 'sembox.rviz')],
        remappings=[('image', argument('image'))],
        condition=IfCondition(argument('rviz')),
    )
    return LaunchDescription(
        [
            *arguments,
            SetEnvironmentVariable(
                'FASTDDS_BUILTIN_TRANSPORTS',
                'DEFAULT',
                condition=IfCondition(EqualsSubstitution(argument('transport'), 'default')),
            ),
            PushROSNamespace(argument('namespace')),
            OpaqueFunction(function=create_node),
            rviz,
        ]
    )
