"""Class names, colours and thing flags of public datasets, as plain tables in the order of their class ids.

Facts only; `labels` makes the label sets of them. Each table names the public project it follows.
"""

from __future__ import annotations

Row = tuple[str, tuple[int, int, int], bool]  # name, (r, g, b), countable

# Cityscapes train ids, names and colours as its label definition lists them (github.com/mcordts/cityscapesScripts,
# cityscapesscripts/helpers/labels.py).
CITYSCAPES: tuple[Row, ...] = (
    ('road', (128, 64, 128), False),
    ('sidewalk', (244, 35, 232), False),
    ('building', (70, 70, 70), False),
    ('wall', (102, 102, 156), False),
    ('fence', (190, 153, 153), False),
    ('pole', (153, 153, 153), False),
    ('traffic light', (250, 170, 30), False),
    ('traffic sign', (220, 220, 0), False),
    ('vegetation', (107, 142, 35), False),
    ('terrain', (152, 251, 152), False),
    ('sky', (70, 130, 180), False),
    ('person', (220, 20, 60), True),
    ('rider', (255, 0, 0), True),
    ('car', (0, 0, 142), True),
    ('truck', (0, 0, 70), True),
    ('bus', (0, 60, 100), True),
    ('train', (0, 80, 100), True),
    ('motorcycle', (0, 0, 230), True),
    ('bicycle', (119, 11, 32), True),
)

# Cityscapes categories with the ids of the same file's `categoryId`. It defines no colours for them; each has
# the colour of its most frequent class.
CITYSCAPES_CATEGORIES: tuple[Row, ...] = (
    ('void', (0, 0, 0), False),
    ('flat', (128, 64, 128), False),
    ('construction', (70, 70, 70), False),
    ('object', (153, 153, 153), False),
    ('nature', (107, 142, 35), False),
    ('sky', (70, 130, 180), False),
    ('human', (220, 20, 60), True),
    ('vehicle', (0, 0, 142), True),
)

# The same file's `id` 0..33, as in *_labelIds.png -> `trainId` (255: not evaluated) and `categoryId`.
CITYSCAPES_TRAIN_IDS = (
    255, 255, 255, 255, 255, 255, 255, 0, 1, 255, 255, 2, 3, 4, 255, 255, 255,
    5, 255, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 255, 255, 16, 17, 18,
)  # fmt: skip
CITYSCAPES_CATEGORY_IDS = (
    0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2,
    3, 3, 3, 3, 4, 4, 5, 6, 6, 7, 7, 7, 7, 7, 7, 7, 7,
)  # fmt: skip

# KITTI road ground truth: red is not road, magenta is road, black (not judged) becomes the ignore id.
KITTI_ROAD: tuple[Row, ...] = (
    ('not road', (255, 0, 0), False),
    ('road', (255, 0, 255), False),
)

# COCO category ids 1..90 of the 2014 paper, shifted to 0..89; ten of them never got annotations
# (street sign, hat, ...), but networks trained on "90 classes" have outputs for them.
COCO_90_NAMES = (
    'person', 'bicycle', 'car', 'motorcycle', 'airplane', 'bus', 'train', 'truck', 'boat', 'traffic light',
    'fire hydrant', 'street sign', 'stop sign', 'parking meter', 'bench', 'bird', 'cat', 'dog', 'horse', 'sheep',
    'cow', 'elephant', 'bear', 'zebra', 'giraffe', 'hat', 'backpack', 'umbrella', 'shoe', 'eye glasses',
    'handbag', 'tie', 'suitcase', 'frisbee', 'skis', 'snowboard', 'sports ball', 'kite', 'baseball bat',
    'baseball glove',
    'skateboard', 'surfboard', 'tennis racket', 'bottle', 'plate', 'wine glass', 'cup', 'fork', 'knife', 'spoon',
    'bowl', 'banana', 'apple', 'sandwich', 'orange', 'broccoli', 'carrot', 'hot dog', 'pizza', 'donut',
    'cake', 'chair', 'couch', 'potted plant', 'bed', 'mirror', 'dining table', 'window', 'desk', 'toilet',
    'door', 'tv', 'laptop', 'mouse', 'remote', 'keyboard', 'cell phone', 'microwave', 'oven', 'toaster',
    'sink', 'refrigerator', 'blender', 'book', 'clock', 'vase', 'scissors', 'teddy bear', 'hair drier', 'toothbrush',
)  # fmt: skip

# The ten of them without annotations; the 80 others, in this order, are the usual contiguous ids 0..79.
COCO_UNUSED = frozenset({
    'street sign', 'hat', 'shoe', 'eye glasses', 'plate', 'mirror', 'window', 'desk', 'door', 'blender',
})  # fmt: skip

# Box class -> the thing of a mask vocabulary that means it, where their names differ. Cityscapes' categories take
# in all vehicles of its own classes (no boats or aeroplanes).
THING_SYNONYMS: dict[str, dict[str, str]] = {
    'cityscapes_8': {
        'person': 'human', 'rider': 'human', 'bicycle': 'vehicle', 'car': 'vehicle', 'motorcycle': 'vehicle',
        'bus': 'vehicle', 'train': 'vehicle', 'truck': 'vehicle',
    },
    'voc_21': {
        'airplane': 'aeroplane', 'dining table': 'diningtable', 'motorcycle': 'motorbike',
        'potted plant': 'pottedplant', 'couch': 'sofa', 'tv': 'tvmonitor',
    },
    'ade20k_150': {
        'couch': 'sofa', 'motorcycle': 'minibike', 'tv': 'television', 'dining table': 'table', 'sports ball': 'ball',
        'wine glass': 'glass',
    },
}  # fmt: skip

# PASCAL VOC 2012 segmentation: ids 0..20, 255 is the border between objects. Colours come from its colour map.
VOC_NAMES = (
    'background', 'aeroplane', 'bicycle', 'bird', 'boat', 'bottle', 'bus', 'car', 'cat', 'chair', 'cow',
    'diningtable', 'dog', 'horse', 'motorbike', 'person', 'pottedplant', 'sheep', 'sofa', 'train', 'tvmonitor',
)  # fmt: skip

# ADE20K scene parsing: objectInfo150.txt (the first of each class's synonyms) and color150.mat of
# github.com/CSAILVision/sceneparsing; its ids 1..150 are 0..149 here, its 0 (other) is the ignore id. Things are
# the 100 classes of instancesegmentation/instanceInfo100_train.txt in github.com/CSAILVision/placeschallenge.
ADE20K: tuple[Row, ...] = (
    ('wall', (120, 120, 120), False),
    ('building', (180, 120, 120), False),
    ('sky', (6, 230, 230), False),
    ('floor', (80, 50, 50), False),
    ('tree', (4, 200, 3), False),
    ('ceiling', (120, 120, 80), False),
    ('road', (140, 140, 140), False),
    ('bed', (204, 5, 255), True),
    ('windowpane', (230, 230, 230), True),
    ('grass', (4, 250, 7), False),
    ('cabinet', (224, 5, 255), True),
    ('sidewalk', (235, 255, 7), False),
    ('person', (150, 5, 61), True),
    ('earth', (120, 120, 70), False),
    ('door', (8, 255, 51), True),
    ('table', (255, 6, 82), True),
    ('mountain', (143, 255, 140), False),
    ('plant', (204, 255, 4), False),
    ('curtain', (255, 51, 7), True),
    ('chair', (204, 70, 3), True),
    ('car', (0, 102, 200), True),
    ('water', (61, 230, 250), False),
    ('painting', (255, 6, 51), True),
    ('sofa', (11, 102, 255), True),
    ('shelf', (255, 7, 71), True),
    ('house', (255, 9, 224), False),
    ('sea', (9, 7, 230), False),
    ('mirror', (220, 220, 220), True),
    ('rug', (255, 9, 92), False),
    ('field', (112, 9, 255), False),
    ('armchair', (8, 255, 214), True),
    ('seat', (7, 255, 224), True),
    ('fence', (255, 184, 6), True),
    ('desk', (10, 255, 71), True),
    ('rock', (255, 41, 10), False),
    ('wardrobe', (7, 255, 255), True),
    ('lamp', (224, 255, 8), True),
    ('bathtub', (102, 8, 255), True),
    ('railing', (255, 61, 6), True),
    ('cushion', (255, 194, 7), True),
    ('base', (255, 122, 8), False),
    ('box', (0, 255, 20), True),
    ('column', (255, 8, 41), True),
    ('signboard', (255, 5, 153), True),
    ('chest of drawers', (6, 51, 255), True),
    ('counter', (235, 12, 255), True),
    ('sand', (160, 150, 20), False),
    ('sink', (0, 163, 255), True),
    ('skyscraper', (140, 140, 140), False),
    ('fireplace', (250, 10, 15), True),
    ('refrigerator', (20, 255, 0), True),
    ('grandstand', (31, 255, 0), False),
    ('path', (255, 31, 0), False),
    ('stairs', (255, 224, 0), True),
    ('runway', (153, 255, 0), False),
    ('case', (0, 0, 255), True),
    ('pool table', (255, 71, 0), True),
    ('pillow', (0, 235, 255), True),
    ('screen door', (0, 173, 255), True),
    ('stairway', (31, 0, 255), False),
    ('river', (11, 200, 200), False),
    ('bridge', (255, 82, 0), False),
    ('bookcase', (0, 255, 245), True),
    ('blind', (0, 61, 255), False),
    ('coffee table', (0, 255, 112), True),
    ('toilet', (0, 255, 133), True),
    ('flower', (255, 0, 0), True),
    ('book', (255, 163, 0), True),
    ('hill', (255, 102, 0), False),
    ('bench', (194, 255, 0), True),
    ('countertop', (0, 143, 255), True),
    ('stove', (51, 255, 0), True),
    ('palm', (0, 82, 255), True),
    ('kitchen island', (0, 255, 41), True),
    ('computer', (0, 255, 173), True),
    ('swivel chair', (10, 0, 255), True),
    ('boat', (173, 255, 0), True),
    ('bar', (0, 255, 153), False),
    ('arcade machine', (255, 92, 0), True),
    ('hovel', (255, 0, 255), False),
    ('bus', (255, 0, 245), True),
    ('towel', (255, 0, 102), True),
    ('light', (255, 173, 0), True),
    ('truck', (255, 0, 20), True),
    ('tower', (255, 184, 184), False),
    ('chandelier', (0, 31, 255), True),
    ('awning', (0, 255, 61), True),
    ('streetlight', (0, 71, 255), True),
    ('booth', (255, 0, 204), True),
    ('television', (0, 255, 194), True),
    ('airplane', (0, 255, 82), True),
    ('dirt track', (0, 10, 255), False),
    ('apparel', (0, 112, 255), True),
    ('pole', (51, 0, 255), True),
    ('land', (0, 194, 255), False),
    ('bannister', (0, 122, 255), True),
    ('escalator', (0, 255, 163), False),
    ('ottoman', (255, 153, 0), True),
    ('bottle', (0, 255, 10), True),
    ('buffet', (255, 112, 0), False),
    ('poster', (143, 255, 0), False),
    ('stage', (82, 0, 255), False),
    ('van', (163, 255, 0), True),
    ('ship', (255, 235, 0), True),
    ('fountain', (8, 184, 170), True),
    ('conveyer belt', (133, 0, 255), False),
    ('canopy', (0, 255, 92), False),
    ('washer', (184, 0, 255), True),
    ('plaything', (255, 0, 31), True),
    ('swimming pool', (0, 184, 255), False),
    ('stool', (0, 214, 255), True),
    ('barrel', (255, 0, 112), True),
    ('basket', (92, 255, 0), True),
    ('waterfall', (0, 224, 255), False),
    ('tent', (112, 224, 255), False),
    ('bag', (70, 184, 160), True),
    ('minibike', (163, 0, 255), True),
    ('cradle', (153, 0, 255), False),
    ('oven', (71, 255, 0), True),
    ('ball', (255, 0, 163), True),
    ('food', (255, 204, 0), True),
    ('step', (255, 0, 143), True),
    ('tank', (0, 255, 235), False),
    ('trade name', (133, 255, 0), True),
    ('microwave', (255, 0, 235), True),
    ('pot', (245, 0, 255), True),
    ('animal', (255, 0, 122), True),
    ('bicycle', (255, 245, 0), True),
    ('lake', (10, 190, 212), False),
    ('dishwasher', (214, 255, 0), True),
    ('screen', (0, 204, 255), True),
    ('blanket', (20, 0, 255), False),
    ('sculpture', (255, 255, 0), True),
    ('hood', (0, 153, 255), True),
    ('sconce', (0, 41, 255), True),
    ('vase', (0, 255, 204), True),
    ('traffic light', (41, 0, 255), True),
    ('tray', (41, 255, 0), True),
    ('ashcan', (173, 0, 255), True),
    ('fan', (0, 245, 255), True),
    ('pier', (71, 0, 255), False),
    ('crt screen', (122, 0, 255), False),
    ('plate', (0, 255, 184), True),
    ('monitor', (0, 92, 255), True),
    ('bulletin board', (184, 255, 0), True),
    ('shower', (0, 133, 255), False),
    ('radiator', (255, 214, 0), True),
    ('glass', (25, 194, 194), True),
    ('clock', (102, 255, 0), True),
    ('flag', (92, 0, 255), True),
)
