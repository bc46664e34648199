"""Losses: modules of logits and targets, unaware of files and command lines."""

from loss_functions.asymmetric import AsymmetricLoss
from loss_functions.lcfcn import LCFCNLoss
from loss_functions.local_nms import LocalNMSLoss
from loss_functions.region_tags import RegionTagLoss

__all__ = ["AsymmetricLoss", "LCFCNLoss", "LocalNMSLoss", "RegionTagLoss"]
