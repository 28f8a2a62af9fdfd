from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
import torchvision
from efficientnet_pytorch import EfficientNet
from random_networks import calibrate_norms
from torch import nn

from sembox_ros.config import InputConfig
from sembox_ros.errors import CheckpointError, ConfigError
from sembox_ros.labels import COCO_90, SceneLabels
from sembox_ros.models.checkpoint import (
    Checkpoint,
    describe,
    load_checkpoint,
    load_with_header,
    parse_description,
    save_checkpoint,
)
from sembox_ros.models.classifier import Crop, classifier_config, imagenet_categories, published_crop
from sembox_ros.models.importers import find_plan, import_state, read_pth
from sembox_ros.models.profile import profile_model
from sembox_ros.models.zoo import CLASSIFIERS, MODELS, create_model, find_model

VARIANTS = tuple(f'b{i}' for i in range(8))
SOURCES = {
    'torchvision:efficientnet_{}_classifier': lambda v: torchvision.models.get_model(f'efficientnet_{v}', weights=None),
    'efficientnet-{}-classifier': lambda v: EfficientNet.from_name(f'efficientnet-{v}'),
}


@torch.no_grad()
@pytest.mark.parametrize('source', SOURCES)
def test_an_imported_classifier_computes_what_the_original_does(source: str, tmp_path: Path):
    """Through a real .pth file and a real checkpoint."""
    theirs: nn.Module = SOURCES[source]('b0')
    calibrate_norms(theirs, seed=1)  # else all logits fade to the same
    torch.save(theirs.eval().state_dict(), tmp_path / 'net.pth')
    checkpoint = import_state(read_pth(tmp_path / 'net.pth'), source.format('b0'))
    save_checkpoint(checkpoint, tmp_path / 'net.safetensors')
    loaded, _ = load_with_header(tmp_path / 'net.safetensors')
    assert loaded.trained
    assert loaded.config == checkpoint.config
    assert loaded.categories == imagenet_categories()
    images = torch.randn(2, 3, 224, 224)
    expected = theirs(images)
    assert expected.shape == (2, 1000)
    assert (expected[0] - expected[1]).abs().max() > 0.1
    torch.testing.assert_close(loaded.model(images), expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize('variant', VARIANTS)
@pytest.mark.parametrize('source', SOURCES)
def test_every_plan_takes_every_key_of_the_original(source: str, variant: str):
    with torch.device('meta'):
        original, ours = SOURCES[source](variant), create_model(find_plan(source.format(variant)).config)
    plan = find_plan(source.format(variant))
    assert plan.config.name == f'efficientnet_{variant}_classifier'
    assert not plan.part
    shapes = {name: tensor.shape for name, tensor in original.state_dict().items()}
    assert shapes == {name: tensor.shape for name, tensor in ours.state_dict().items()}
    with pytest.raises(CheckpointError) as caught:
        plan.key_map.apply({}, ours)
    assert f'expected {len(shapes)} of this source, got 0' in str(caught.value)
    assert 'importer' not in str(caught.value)


def test_the_published_sizes():
    assert [published_crop(f'efficientnet-{v}').side for v in VARIANTS] == [224, 240, 260, 300, 380, 456, 528, 600]
    assert published_crop('efficientnet-b3') == Crop(300, 300)
    assert [tuple(published_crop(f'torchvision-efficientnet-{v}')) for v in VARIANTS] == [
        (256, 224), (256, 240), (288, 288), (320, 300), (384, 380), (456, 456), (528, 528), (600, 600),
    ]  # fmt: skip
    with pytest.raises(ConfigError, match="'regnetx-400mf' has no classifier"):
        published_crop('regnetx-400mf')


def test_the_categories_are_those_of_imagenet():
    names = imagenet_categories()
    assert len(set(names)) == 1000
    assert (names[0], names[1], names[207], names[999]) == ('tench', 'goldfish', 'golden retriever', 'toilet tissue')


@pytest.mark.parametrize(('name', 'millions', 'billions'), [('b0', 5.3, 0.39), ('b4', 19, 4.2)])
def test_cost_is_the_papers(name: str, millions: float, billions: float):
    """Table 2 of Tan & Le 2019."""
    config = CLASSIFIERS[f'efficientnet_{name}_classifier'].config
    side = published_crop(config.encoder).side
    for folded in (False, True):
        parts = profile_model(config, (side, side), folded=folded)
        assert sum(part.parameters for part in parts) / 1e6 == pytest.approx(millions, rel=0.03)
        assert sum(part.multiply_adds for part in parts) / 1e9 == pytest.approx(billions, rel=0.06)


def test_classifiers_are_none_of_the_networks_that_see_scenes():
    assert not CLASSIFIERS.keys() & MODELS.keys()
    with pytest.raises(ConfigError, match=r'names whole images and sees no scenes.* classify'):
        find_model('efficientnet_b0_classifier')


@pytest.mark.parametrize(
    ('change', 'words'),
    [
        ({'name': 'sembox_b0'}, 'image_classes: expected none for sembox_b0, got 1000'),
        ({'image_classes': 0, 'box_head': True}, 'image_classes: expected some for efficientnet_b0_classifier, got 0'),
        ({'encoder': 'mobilenetv2'}, "encoder: 'mobilenetv2' has no classifier"),
        ({'box_head': True}, 'image_classes: expected 0 for a network that sees scenes, got 1000'),
        ({'image_classes': 0}, 'or nothing is found'),
    ],
)
def test_contradictions_are_refused(change: dict, words: str):
    config = classifier_config('efficientnet_b0_classifier', 'efficientnet-b0')
    with pytest.raises(ConfigError) as caught, torch.device('meta'):
        create_model(dataclasses.replace(config, **change))
    assert words in str(caught.value)


def test_import_of_other_heads_and_labels_is_refused():
    state = EfficientNet.from_name('efficientnet-b0', num_classes=7).state_dict()
    with pytest.raises(CheckpointError, match=r"'_fc\.weight'.*expected shape \(1000, 1280\), got \(7, 1280\)"):
        import_state(state, 'efficientnet-b0-classifier')
    with pytest.raises(ConfigError, match='labels: expected none, efficientnet_b0_classifier has 1000 categories'):
        import_state(state, 'efficientnet-b0-classifier', SceneLabels(None, COCO_90))


@pytest.mark.parametrize(
    ('categories', 'words'),
    [
        ('["cat"]', 'categories: expected 1000 names'),
        ('{"cat": 1}', "metadata 'categories' should be a JSON list, got dict"),
        ('[1, 2]', "label set 'categories': expected printable names"),
        ('["\\u001b[31m"]', "label set 'categories': expected printable names"),
        ('[', "metadata 'categories' is not JSON"),
    ],
)
def test_damaged_categories_are_refused(categories: str, words: str):
    config = classifier_config('efficientnet_b0_classifier', 'efficientnet-b0')
    with torch.device('meta'):
        network = create_model(config)
    labels, names = SceneLabels(None, COCO_90), imagenet_categories()
    described = describe(Checkpoint(network, config, labels, InputConfig(), categories=names))
    assert parse_description(described).categories == names
    with pytest.raises(CheckpointError) as caught:
        parse_description({**described, 'categories': categories})
    assert words in str(caught.value)
    assert str(caught.value).isprintable()


def test_a_classifier_is_no_checkpoint_for_scenes(tmp_path: Path):
    state = EfficientNet.from_name('efficientnet-b0').state_dict()
    checkpoint = import_state(state, 'efficientnet-b0-classifier')
    save_checkpoint(checkpoint, tmp_path / 'net.safetensors')
    with pytest.raises(CheckpointError, match=r'names whole images and sees no scenes; .*classify') as caught:
        load_checkpoint(tmp_path / 'net.safetensors')
    assert str(tmp_path) in str(caught.value)
    with pytest.raises(CheckpointError, match='categories: expected 1000 names'):
        dataclasses.replace(checkpoint, categories=('cat',))
