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

# KITTI road ground truth: red is not road, magenta is road, black (not judged) becomes the ignore id. That of the ego
# lane has the same colours.
KITTI_ROAD: tuple[Row, ...] = (
    ('not road', (255, 0, 0), False),
    ('road', (255, 0, 255), False),
)
KITTI_LANE: tuple[Row, ...] = (
    ('not lane', (255, 0, 0), False),
    ('lane', (255, 0, 255), False),
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

# COCO panoptic: the 80 annotated things above, with these colours, then 53 stuff classes with their category ids
# (github.com/cocodataset/panopticapi, panoptic_coco_categories.json). A class id is the row, in the order of the ids.
COCO_PANOPTIC_THING_COLORS = (
    (220, 20, 60), (119, 11, 32), (0, 0, 142), (0, 0, 230), (106, 0, 228), (0, 60, 100), (0, 80, 100), (0, 0, 70),
    (0, 0, 192), (250, 170, 30), (100, 170, 30), (220, 220, 0), (175, 116, 175), (250, 0, 30), (165, 42, 42),
    (255, 77, 255), (0, 226, 252), (182, 182, 255), (0, 82, 0), (120, 166, 157), (110, 76, 0), (174, 57, 255),
    (199, 100, 0), (72, 0, 118), (255, 179, 240), (0, 125, 92), (209, 0, 151), (188, 208, 182), (0, 220, 176),
    (255, 99, 164), (92, 0, 73), (133, 129, 255), (78, 180, 255), (0, 228, 0), (174, 255, 243), (45, 89, 255),
    (134, 134, 103), (145, 148, 174), (255, 208, 186), (197, 226, 255), (171, 134, 1), (109, 63, 54), (207, 138, 255),
    (151, 0, 95), (9, 80, 61), (84, 105, 51), (74, 65, 105), (166, 196, 102), (208, 195, 210), (255, 109, 65),
    (0, 143, 149), (179, 0, 194), (209, 99, 106), (5, 121, 0), (227, 255, 205), (147, 186, 208), (153, 69, 1),
    (3, 95, 161), (163, 255, 0), (119, 0, 170), (0, 182, 199), (0, 165, 120), (183, 130, 88), (95, 32, 0),
    (130, 114, 135), (110, 129, 133), (166, 74, 118), (219, 142, 185), (79, 210, 114), (178, 90, 62), (65, 70, 15),
    (127, 167, 115), (59, 105, 106), (142, 108, 45), (196, 172, 0), (95, 54, 80), (128, 76, 255), (201, 57, 1),
    (246, 0, 122), (191, 162, 208),
)  # fmt: skip
COCO_PANOPTIC_STUFF = (
    (92, 'banner', (255, 255, 128)), (93, 'blanket', (147, 211, 203)), (95, 'bridge', (150, 100, 100)),
    (100, 'cardboard', (168, 171, 172)), (107, 'counter', (146, 112, 198)), (109, 'curtain', (210, 170, 100)),
    (112, 'door-stuff', (92, 136, 89)), (118, 'floor-wood', (218, 88, 184)), (119, 'flower', (241, 129, 0)),
    (122, 'fruit', (217, 17, 255)), (125, 'gravel', (124, 74, 181)), (128, 'house', (70, 70, 70)),
    (130, 'light', (255, 228, 255)), (133, 'mirror-stuff', (154, 208, 0)), (138, 'net', (193, 0, 92)),
    (141, 'pillow', (76, 91, 113)), (144, 'platform', (255, 180, 195)), (145, 'playingfield', (106, 154, 176)),
    (147, 'railroad', (230, 150, 140)), (148, 'river', (60, 143, 255)), (149, 'road', (128, 64, 128)),
    (151, 'roof', (92, 82, 55)), (154, 'sand', (254, 212, 124)), (155, 'sea', (73, 77, 174)),
    (156, 'shelf', (255, 160, 98)), (159, 'snow', (255, 255, 255)), (161, 'stairs', (104, 84, 109)),
    (166, 'tent', (169, 164, 131)), (168, 'towel', (225, 199, 255)), (171, 'wall-brick', (137, 54, 74)),
    (175, 'wall-stone', (135, 158, 223)), (176, 'wall-tile', (7, 246, 231)), (177, 'wall-wood', (107, 255, 200)),
    (178, 'water-other', (58, 41, 149)), (180, 'window-blind', (183, 121, 142)), (181, 'window-other', (255, 73, 97)),
    (184, 'tree-merged', (107, 142, 35)), (185, 'fence-merged', (190, 153, 153)),
    (186, 'ceiling-merged', (146, 139, 141)), (187, 'sky-other-merged', (70, 130, 180)),
    (188, 'cabinet-merged', (134, 199, 156)), (189, 'table-merged', (209, 226, 140)),
    (190, 'floor-other-merged', (96, 36, 108)), (191, 'pavement-merged', (96, 96, 96)),
    (192, 'mountain-merged', (64, 170, 64)), (193, 'grass-merged', (152, 251, 152)),
    (194, 'dirt-merged', (208, 229, 228)), (195, 'paper-merged', (206, 186, 171)),
    (196, 'food-other-merged', (152, 161, 64)), (197, 'building-other-merged', (116, 112, 0)),
    (198, 'rock-merged', (0, 114, 143)), (199, 'wall-other-merged', (102, 102, 156)),
    (200, 'rug-merged', (250, 141, 255)),
)  # fmt: skip

# Cityscapes' categories take in all vehicles of its own classes (no boats or aeroplanes).
_CATEGORY_OF = {
    'person': 'human', 'rider': 'human', 'bicycle': 'vehicle', 'car': 'vehicle', 'motorcycle': 'vehicle',
    'bus': 'vehicle', 'train': 'vehicle', 'truck': 'vehicle',
}  # fmt: skip

# Box class -> the thing of a mask vocabulary that means it, where their names differ.
THING_SYNONYMS: dict[str, dict[str, str]] = {
    'cityscapes_8': _CATEGORY_OF,
    'cityscapes_7': _CATEGORY_OF,
    'voc_21': {
        'airplane': 'aeroplane', 'dining table': 'diningtable', 'motorcycle': 'motorbike',
        'potted plant': 'pottedplant', 'couch': 'sofa', 'tv': 'tvmonitor',
    },
    'ade20k_150': {
        'couch': 'sofa', 'motorcycle': 'minibike', 'tv': 'television', 'dining table': 'table', 'sports ball': 'ball',
        'wine glass': 'glass',
    },
    'ade20k_32': {'couch': 'sofa', 'dining table': 'table'},
}  # fmt: skip

# TI edgeailite's ADE20K with 32 classes: the ids 1..31 of the 150, which are the most frequent ones, as they are; all
# others and 'other' are class 0 (references/edgeailite, datasets/pixel2pixel/ade20k.py of its edgeai-torchvision).
ADE20K_FREQUENT = 31

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
