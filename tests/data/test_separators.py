"""Joined labels: found whatever joins them, and no alarm on names of real data sets."""

from __future__ import annotations

from itertools import combinations

import pytest
from timm.data import ImageNetInfo
from torchvision.models import MobileNet_V2_Weights  # type: ignore[import-untyped]
from torchvision.models.detection import (  # type: ignore[import-untyped]
    FasterRCNN_MobileNet_V3_Large_FPN_Weights,
)

from helper_functions.data.separators import find_joined

SEPARATORS = ("|", ";", "/", " & ", "+", ", ", " and ", " ", "_", "-", ":")


@pytest.mark.parametrize("separator", SEPARATORS)
def test_joined_labels_are_found(separator: str) -> None:
    labels = ("crab", "fish", "eel")
    names = [separator.join(some) for count in (1, 2, 3) for some in combinations(labels, count)]
    joined = find_joined(names, lists=False)
    assert joined is not None
    assert separator.strip() in joined.separator
    assert joined.names == sorted(set(names) - set(labels))
    assert joined.parts == ["crab", "eel"] if separator != " " else joined.separator == " "


@pytest.mark.parametrize("separator", SEPARATORS)
def test_pairs_alone_are_enough(separator: str) -> None:
    names = [separator.join(pair) for pair in combinations(("cod", "crab", "eel", "fish"), 2)]
    joined = find_joined(names, lists=False)
    assert joined is not None
    assert joined.names == sorted(names)


def test_one_name_among_lists_is_enough_for_a_bar_only() -> None:
    for name, found in (("crab|eel", True), ("crab;eel", True), ("crab eel", False)):
        names = ["crab", "eel", "fish", name]
        assert (find_joined(names, lists=True) is not None) == found
    assert find_joined(["crab|", "crab"], lists=False) is not None


# Genus and epithet, color and thing, remarks in brackets, published classes
REAL = {
    "trees": (
        *("Pinus sylvestris", "Pinus nigra", "Fagus sylvatica", "Quercus nigra", "Quercus robur"),
        *("Pinus", "Fagus", "Quercus"),
    ),
    "lower case": ("picea abies", "abies alba", "abies nordmanniana", "pinus nigra"),
    "subspecies": ("Corvus corone corone", "Corvus corone cornix", "Corvus corax"),
    "things": ("red car", "blue car", "red truck", "blue truck", "car", "truck"),
    "brackets": ("fish (adult)", "fish (juvenile)", "fish", "crab (adult)"),
    "paths": ("animal/dog", "animal/cat", "animal", "plant/oak"),
    "CheXpert": (
        *("Lung Opacity", "Lung Lesion", "Pleural Effusion", "Pleural Other", "Effusion"),
        *("Enlarged Cardiomediastinum", "Support Devices", "No Finding", "Fracture"),
    ),
    "BigEarthNet": (
        *("Moors, heathland and sclerophyllous vegetation", "Beaches, dunes, sands"),
        *("Transitional woodland, shrub", "Inland waters", "Marine waters", "Inland wetlands"),
        *("Coastal wetlands", "Mixed forest", "Coniferous forest", "Broad-leaved forest"),
    ),
    "UC Merced": ("bare-soil", "mobile-home", "airplane", "court", "field", "sand", "sea"),
    "ImageNet": tuple(MobileNet_V2_Weights.DEFAULT.meta["categories"]),
    "COCO": tuple(FasterRCNN_MobileNet_V3_Large_FPN_Weights.DEFAULT.meta["categories"]),
    "ImageNet-12k": tuple(ImageNetInfo("imagenet-12k").label_descriptions()),
}


@pytest.mark.parametrize("lists", [False, True])
@pytest.mark.parametrize("names", REAL.values(), ids=REAL)
def test_real_names_raise_no_alarm(names: tuple[str, ...], lists: bool) -> None:
    assert find_joined(names, lists=lists) is None
