"""Moving picture of a scene (`vexkd plot drive`): its cameras, and what each of several students makes of it."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from PIL import Image

from vexkd_model.data.dataset import load_frame
from vexkd_model.data.image_files import load_image
from vexkd_model.data.index import FrameIndex
from vexkd_model.deploy.predictor import Predictor
from vexkd_model.errors import UserError
from vexkd_model.figures.bev_axes import INK, map_swatches
from vexkd_model.figures.bev_figure import TRUTH
from vexkd_model.figures.comparison_figure import StudentPanel, draw_answer
from vexkd_model.figures.scene import MAP_OPACITY, load_scene
from vexkd_model.files import atomic_file
from vexkd_model.progress import progress
from vexkd_model.training.run import load_predictor
from vexkd_model.types import CameraImage

AHEAD = ("CAM_FRONT_LEFT", "CAM_FRONT", "CAM_FRONT_RIGHT")
RANGE_M = (-25.0, 40.0), (-32.5, 32.5)  # of x and y that is shown
WIDTH_IN, DPI, COLUMNS = 10.0, 90, 2
COLOURS = 200  # fewer make a smaller file; those of a few thin boxes must be among them (MAXCOVERAGE)
FRAME_MS = 400


def plot_drive(path: Path, students: Sequence[Path], index: FrameIndex, scene: str) -> int:
    """Write an animated GIF with one frame per keyframe of a scene; return their number.

    students: runs or packages with both heads. UserError for a scene that is not in the split, a student without a head
    and a name that does not end in .gif.
    """
    if path.suffix.lower() != ".gif":
        raise UserError(f"{path}: a moving picture is a GIF; give a name that ends in .gif")
    chosen = [i for i, name in enumerate(index.column("scene")) if name == scene]
    if not chosen:
        raise UserError(f"--scene {scene}: not in split {index.split}, which begins with {index[0].scene}")
    predictors = {}
    for folder in students:
        predictors[folder.name] = predictor = load_predictor(folder)
        if predictor.config.detection is None or predictor.config.segmentation is None:
            raise UserError(f"{folder}: the picture shows boxes and a map, and it has one head alone")
    pictures = _pictures(index, chosen, predictors)
    first, *others = [
        picture.quantize(COLOURS, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE) for picture in pictures
    ]
    with atomic_file(path) as partial:
        first.save(partial, "GIF", save_all=True, append_images=others, duration=FRAME_MS, loop=0, optimize=True)
    return len(chosen)


def _pictures(index: FrameIndex, chosen: Sequence[int], predictors: dict[str, Predictor]) -> Iterator[Image.Image]:
    for i in progress(chosen, "draw", len(chosen), "frames"):
        answers = [
            StudentPanel(name, predictor.predict(load_frame(index, i, predictor.config)), predictor.thresholds)
            for name, predictor in predictors.items()
        ]
        yield _picture(index, i, answers)


def _picture(index: FrameIndex, i: int, answers: Sequence[StudentPanel]) -> Image.Image:
    scene = load_scene(index, i)
    cameras = {camera.name: camera for camera in index[i].cameras if camera.name in AHEAD}
    images = [load_image(cameras[name]) for name in AHEAD if name in cameras]
    rows = -(-len(answers) // COLUMNS)
    (back, front), (right, left) = RANGE_M
    heights = [WIDTH_IN / len(AHEAD) * 9 / 16] * bool(images) + [
        WIDTH_IN / COLUMNS * (front - back) / (left - right)
    ] * rows
    figure = Figure(figsize=(WIDTH_IN, sum(heights) + 0.35 * rows + 0.4), dpi=DPI, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    parts = figure.subfigures(len(heights), 1, squeeze=False, height_ratios=heights)[:, 0]
    if images:
        for axes, image in zip(parts[0].subplots(1, len(images), squeeze=False)[0], images, strict=True):
            _show(axes, image)
    for row, part in enumerate(parts[bool(images) :]):
        panels = part.subplots(1, COLUMNS, squeeze=False)[0]
        for panel, answer in zip(panels, answers[row * COLUMNS :], strict=False):
            draw_answer(panel, scene, answer)
            panel.set(xlim=(left, right), ylim=(back, front), xlabel="", ylabel="", xticks=[], yticks=[])
            panel.set_title(answer.title, fontsize=11, color=INK, parse_math=False)
        for unused in panels[len(answers[row * COLUMNS :]) :]:
            unused.set_axis_off()
    figure.legend(
        handles=[Patch(facecolor=TRUTH + "38", edgecolor=TRUTH, label="ground truth"), *map_swatches(MAP_OPACITY)],
        loc="outside lower center",
        ncols=7,
        frameon=False,
        fontsize=8,
        labelcolor=INK,
    )
    canvas.draw()
    return Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3])


def _show(axes: Axes, image: CameraImage) -> None:
    axes.imshow(image.pixels)
    axes.set_axis_off()
