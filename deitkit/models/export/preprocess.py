"""Pre-processing as an ONNX graph: uint8 pixels [B, h, w, 3] of any size -> images [B, 3, H, W], normalised.

The evaluation view of `deitkit.data.views.augment`: the short side is resized to floor(side / crop ratio), as Pillow
does (antialiased, 8 bits), and the centre is cropped. All images of a batch have one size.
"""

from __future__ import annotations

import math
from typing import Any

from deitkit.models.exported import IMAGES
from deitkit.models.folder import ModelInfo

PIXELS = "pixels"
PREFIX = "pre_"  # of the names inside
# Pillow's kernels: its bicubic one has a = -0.5; weights outside of the image are left out.
KERNELS = {
    "bicubic": 'mode = "cubic", cubic_coeff_a = -0.5, exclude_outside = 1',
    "bilinear": 'mode = "linear", exclude_outside = 1',
}
GRAPH = """
<ir_version: {ir}, opset_import: ["" : {opset}]>
preprocessing (uint8[batch, height, width, 3] {pixels}) => (float[batch, 3, {rows}, {columns}] {images})
<
  int64[1] pre_rows = {{{short_rows}}}, int64[1] pre_columns = {{{short_columns}}}, int64[1] pre_three = {{3}},
  int64[2] pre_view = {{{rows}, {columns}}}, int64[2] pre_sides = {{2, 3}},
  float pre_half = {{2.0}}, float pre_white = {{255.0}},
  float[1, 3, 1, 1] pre_mean = {{{mean}}}, float[1, 3, 1, 1] pre_std = {{{std}}}
>
{{
  pre_batch = Shape <start = 0, end = 1> ({pixels})
  pre_h = Shape <start = 1, end = 2> ({pixels})
  pre_w = Shape <start = 2, end = 3> ({pixels})
  pre_tall = Mul (pre_rows, pre_w)
  pre_wide = Mul (pre_columns, pre_h)
  pre_is_wide = GreaterOrEqual (pre_tall, pre_wide)
  pre_to_w = Div (pre_tall, pre_h)
  pre_to_h = Div (pre_wide, pre_w)
  pre_new_h = Where (pre_is_wide, pre_rows, pre_to_h)
  pre_new_w = Where (pre_is_wide, pre_to_w, pre_columns)
  pre_sizes = Concat <axis = 0> (pre_batch, pre_three, pre_new_h, pre_new_w)
  pre_planes = Transpose <perm = [0, 3, 1, 2]> ({pixels})
  pre_resized = Resize <antialias = 1, coordinate_transformation_mode = "half_pixel", {kernel}>
    (pre_planes, , , pre_sizes)
  pre_new = Concat <axis = 0> (pre_new_h, pre_new_w)
  pre_spare = Sub (pre_new, pre_view)
  pre_spare_float = Cast <to = 1> (pre_spare)
  pre_margin = Div (pre_spare_float, pre_half)
  pre_even = Round (pre_margin)
  pre_start = Cast <to = 7> (pre_even)
  pre_end = Add (pre_start, pre_view)
  pre_crop = Slice (pre_resized, pre_start, pre_end, pre_sides)
  pre_float = Cast <to = 1> (pre_crop)
  pre_unit = Div (pre_float, pre_white)
  pre_centred = Sub (pre_unit, pre_mean)
  {images} = Div (pre_centred, pre_std)
}}
"""


def with_preprocessing(proto: Any, info: ModelInfo) -> Any:
    """A network's graph behind the one that makes its images."""
    import onnx

    short = [math.floor(side / info.crop_ratio) for side in info.size]
    text = GRAPH.format(
        ir=proto.ir_version, opset=proto.opset_import[0].version, pixels=PIXELS, images=IMAGES, rows=info.size[0],
        columns=info.size[1], short_rows=short[0], short_columns=short[1], kernel=KERNELS[info.interpolation],
        mean=", ".join(map(repr, info.mean)), std=", ".join(map(repr, info.std)),
    )  # fmt: skip
    return onnx.compose.merge_models(onnx.parser.parse_model(text), proto, io_map=[(IMAGES, IMAGES)])
