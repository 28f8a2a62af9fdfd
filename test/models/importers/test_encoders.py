"""Published ImageNet classifiers, made here with other numbers in them, as encoders of the zoo's networks."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torchvision
from efficientnet_pytorch import EfficientNet
from torch import Tensor, nn
from torchvision.models import get_model, get_model_weights

from sembox_ros.errors import CheckpointError, ConfigError
from sembox_ros.models.checkpoint import load_checkpoint, save_checkpoint
from sembox_ros.models.encoders import ENCODERS, mobilenet_v2
from sembox_ros.models.importers import find_plan, import_state, read_pth
from sembox_ros.models.importers.encoders import SOURCES
from sembox_ros.models.zoo import MODELS, create_model

PAGE = Path(__file__).resolve().parents[3] / 'docs' / 'weights.md'
STAGED = [s for s in SOURCES if s.startswith('torchvision:') and 'efficientnet' not in s]
SETTINGS = {'mobilenetv2-s16': mobilenet_v2.STRIDE_16, 'fd-mobilenetv2': mobilenet_v2.FAST}


def random_statistics(model: nn.Module) -> nn.Module:
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(1e-3, 1)  # small enough for the epsilon to matter
    return model.eval()


def run_original(network: nn.Module, images: Tensor) -> list[Tensor]:
    """What torchvision's network makes of images at each of its sizes but the input's, before its classifier."""
    layers = dict(network.named_children())
    if 'features' in layers:
        steps = list(layers['features'])[:-1]
    elif 'stem' in layers:
        steps = [layers['stem'], *layers['trunk_output']]
    else:
        steps = [layers[name] for name in ('conv1', 'bn1', 'relu', 'maxpool', 'layer1', 'layer2', 'layer3', 'layer4')]
    x, last = images, {}
    for step in steps:
        x = step(x)
        last[x.shape[-1]] = x.clone()  # what comes next may work in place
        if step is layers.get('maxpool'):
            del last[x.shape[-1]]
    return list(last.values())


@torch.no_grad()
@pytest.mark.parametrize('source', STAGED)
def test_a_file_of_torchvision_becomes_the_same_features(source: str, tmp_path: Path):
    theirs = random_statistics(get_model(source.removeprefix('torchvision:'), weights=None))
    torch.save(theirs.state_dict(), tmp_path / 'net.pth')
    checkpoint = import_state(read_pth(tmp_path / 'net.pth'), source)
    assert (checkpoint.config.name, checkpoint.input) == (SOURCES[source].model, MODELS[checkpoint.config.name].input)
    assert not checkpoint.trained
    assert checkpoint.recipe['imported_part'] == 'encoder'
    save_checkpoint(checkpoint, tmp_path / 'net.safetensors')
    images = torch.randn(2, 3, 64, 96)
    features = load_checkpoint(tmp_path / 'net.safetensors').model.encoder(images)
    for feature, wanted in zip(features, run_original(theirs, images), strict=True):
        assert feature.std() > 0.01
        torch.testing.assert_close(feature, wanted, rtol=1e-5, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize(
    'model', ['mobilenetv2_unet_lite', 'mobilenetv2_s16_deeplabv3plus_lite', 'fd_mobilenetv2_fpn_lite']
)
def test_one_mobilenet_starts_all_strides(model: str):
    state = random_statistics(get_model('mobilenet_v2', weights=None)).state_dict()
    checkpoint = import_state(state, 'torchvision:mobilenet_v2', model=model)
    assert checkpoint.config == MODELS[model].config
    setting = SETTINGS.get(checkpoint.config.encoder, mobilenet_v2.PUBLISHED)
    same = get_model('mobilenet_v2', weights=None, inverted_residual_setting=setting)
    same.load_state_dict(state)
    images = torch.randn(2, 3, 128, 128)
    features = checkpoint.model.encoder(images)
    wanted = run_original(same.eval(), images)[-len(features) :]  # the fast one has no features of stride 2
    for ours, theirs in zip(features, wanted, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_of_several_inputs_the_images_get_it():
    theirs = random_statistics(get_model('mobilenet_v2', weights=None))
    checkpoint = import_state(theirs.state_dict(), 'torchvision:mobilenet_v2', model='mobilenetv2_s16_multitask')
    assert checkpoint.recipe['imported_part'] == 'encoder.main'
    images = torch.randn(1, 5, 128, 128)
    finest = checkpoint.model.encoder(images)[0]  # the only features before the flow's are joined
    torch.testing.assert_close(finest, theirs.features[:2](images[:, :3]), rtol=1e-5, atol=1e-5)
    fresh = create_model(checkpoint.config).encoder.others.state_dict()
    assert all(torch.equal(fresh[name], t) for name, t in checkpoint.model.encoder.others.state_dict().items())


@torch.no_grad()
@pytest.mark.parametrize('variant', ['b0', 'b1', 'b5'])
def test_torchvision_encoder_is_the_same_function(variant: str):
    theirs = random_statistics(getattr(torchvision.models, f'efficientnet_{variant}')())
    checkpoint = import_state(theirs.state_dict(), f'torchvision:efficientnet_{variant}')
    assert not checkpoint.trained
    assert checkpoint.recipe['imported_part'] == 'encoder'
    images = torch.randn(1, 3, 128, 256)
    for feature, wanted in zip(checkpoint.model.encoder(images), run_original(theirs, images), strict=True):
        torch.testing.assert_close(feature, wanted, rtol=1e-5, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize(
    ('variant', 'model'), [('b0', 'sembox_b0'), ('b0', 'efficientdet_seg_d0'), ('b4', 'sembox_b4')]
)
def test_efficientnet_pytorch_encoder_is_the_same_function(variant: str, model: str, tmp_path: Path):
    theirs = random_statistics(EfficientNet.from_name(f'efficientnet-{variant}', image_size=None))
    torch.save(theirs.state_dict(), tmp_path / 'net.pth')
    given = '' if model.startswith('sembox') else model
    checkpoint = import_state(read_pth(tmp_path / 'net.pth'), f'efficientnet-{variant}', model=given)
    assert checkpoint.config == MODELS[model].config
    images = torch.randn(1, 3, 128, 192)
    points = theirs.extract_endpoints(images)
    for level, feature in enumerate(checkpoint.model.encoder(images)[:4], start=1):
        torch.testing.assert_close(feature, points[f'reduction_{level}'], rtol=1e-4, atol=1e-4)
    save_checkpoint(checkpoint, tmp_path / 'encoder.safetensors')
    loaded = load_checkpoint(tmp_path / 'encoder.safetensors')
    assert torch.equal(loaded.model.encoder(images)[-1], checkpoint.model.encoder(images)[-1])


def test_torchvision_and_tensorflow_flavours_are_not_interchangeable():
    state = EfficientNet.from_name('efficientnet-b0').state_dict()
    with pytest.raises(CheckpointError, match='missing in the file'):
        import_state(state, 'torchvision:efficientnet_b0')


@pytest.mark.parametrize(
    ('source', 'model', 'classes', 'encoder'),
    [
        ('torchvision:efficientnet_b0', 'efficientdet_seg_d0', 19, 'torchvision-efficientnet-b0'),
        ('torchvision:efficientnet_b1', 'sembox_b1_solo', 19, 'torchvision-efficientnet-b1'),
        ('efficientnet-b1', 'semanticboxnet_v1', 20, 'efficientnet-b1'),
        ('efficientnet-b0', 'efficientdet_d0', 0, 'efficientnet-b0'),
        ('torchvision:resnext50_32x4d', 'resnext50_unet', 19, 'resnext50-32x4d'),
    ],
)
def test_a_plan_covers_the_encoder_of_the_chosen_model(source: str, model: str, classes: int, encoder: str):
    """On an empty file, everything is missing and nothing else is wrong."""
    plan = find_plan(source, model)
    assert (plan.config.name, plan.config.encoder, plan.input) == (model, encoder, MODELS[model].input)
    assert len(plan.labels.semantic_names) == classes
    with torch.device('meta'):
        network = create_model(plan.config)
    with pytest.raises(CheckpointError) as caught:
        plan.key_map.apply({}, network.get_submodule(plan.part))
    assert 'missing in the file' in str(caught.value)
    assert 'importer' not in str(caught.value)


def test_every_source_fits_a_model_and_every_encoder_but_one_has_a_source():
    for source in SOURCES.values():
        assert MODELS[source.model].config.encoder in source.encoders
    held = {source.prefix + encoder for source in SOURCES.values() for encoder in source.encoders}
    assert set(ENCODERS) - held == {'mobilenetv2-1.4', 'mobilenetv2-1.4-s16'}  # torchvision publishes no such width


@pytest.mark.parametrize(
    ('source', 'model', 'words'),
    [
        ('torchvision:mobilenet_v2', 'mobilenetv2_1p4_fpn_lite', ['the encoder mobilenetv2-1.4', 'fd_mobilenetv2_fpn']),
        ('torchvision:regnet_x_400mf', 'regnetx_800mf_fpn_lite', ['expected one of: regnetx_400mf_fpn_lite']),
        ('efficientnet-b0', 'sembox_b1', ['expected one of: sembox_b0, efficientdet_seg_d0, efficientdet_d0']),
        ('efficientnet-b0', 'sembox_b9', ["'sembox_b9' is unknown"]),
        ('efficientnet-b0', 'efficientnet_b0_classifier', ['names whole images']),
        ('efficientdet-d0', 'sembox_b0', ['efficientdet-d0 is a whole efficientdet_d0']),
    ],
)
def test_a_model_with_another_encoder_is_refused(source: str, model: str, words: list[str]):
    with pytest.raises(ConfigError) as caught:
        find_plan(source, model)
    for word in words:
        assert word in str(caught.value)
    assert '\n' not in str(caught.value)


def test_keys_of_another_variant_are_named():
    state = get_model('regnet_x_400mf', weights=None).state_dict()
    with pytest.raises(CheckpointError, match=r"missing in the file \('trunk_output.block1.block1-1.*left over"):
        import_state(state, 'torchvision:regnet_x_1_6gf')
    state['stem.2.weight'] = state.pop('fc.bias')
    with pytest.raises(CheckpointError, match=r"1 left over in the file \('stem.2.weight'\)"):
        import_state(state, 'torchvision:regnet_x_400mf')


@pytest.mark.parametrize('source', STAGED)
def test_the_page_names_the_published_files(source: str):
    page = PAGE.read_text()
    assert f'`{source}`' in page
    for weights in get_model_weights(source.removeprefix('torchvision:')):
        assert f'`{weights.url.rpartition("/")[2]}`' in page
