"""The Cityscapes train ids by name, so that drawing code reads `BUILDING` and not 2."""

from __future__ import annotations

from sembox_ros.labels import CITYSCAPES_19, IGNORE_ID

_ID = {name: index for index, name in enumerate(CITYSCAPES_19.names)}

ROAD = _ID['road']
SIDEWALK = _ID['sidewalk']
BUILDING = _ID['building']
WALL = _ID['wall']
FENCE = _ID['fence']
POLE = _ID['pole']
TRAFFIC_LIGHT = _ID['traffic light']
TRAFFIC_SIGN = _ID['traffic sign']
VEGETATION = _ID['vegetation']
TERRAIN = _ID['terrain']
SKY = _ID['sky']
PERSON = _ID['person']
RIDER = _ID['rider']
CAR = _ID['car']
TRUCK = _ID['truck']
BUS = _ID['bus']
TRAIN = _ID['train']
MOTORCYCLE = _ID['motorcycle']
BICYCLE = _ID['bicycle']
UNLABELED = IGNORE_ID
