"""LCFCN's loss against numbers of the released code, and against a plain version."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from conftest import GOLDEN, ROOT
from hypothesis import given, settings
from hypothesis import strategies as st
from loss_functions.plain_lcfcn import plain_loss, plain_terms
from scipy import ndimage
from skimage.measure import label
from skimage.segmentation import find_boundaries, watershed

from loss_functions import LCFCNLoss, flooding
from loss_functions.lcfcn import black_top_hat, blobs, lcfcn_terms
