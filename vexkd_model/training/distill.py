"""`vexkd distill`: a student learns its tasks, and from a teacher's BEV maps."""

from functools import partial
from pathlib import Path

from vexkd_model.config import ModelConfig
from vexkd_model.data.index import FrameIndex
from vexkd_model.data.loader import training_loader
from vexkd_model.distill.distiller import Distiller
from vexkd_model.distill.halt_masks import HaltMasks
from vexkd_model.distill.inherit import inherit_weights
from vexkd_model.distill.map_cache import MapCache, check_cacheable
from vexkd_model.distill.pairing import check_pairing
from vexkd_model.distill.teacher import Teacher, fingerprint
from vexkd_model.training.fit import fit
from vexkd_model.training.module import ModelModule
from vexkd_model.training.run import load_trained
from vexkd_model.training.train import begin


def distill(config: ModelConfig, teacher_from: Path, index: FrameIndex, run: Path, workers: int, resume: bool,
            interactive: bool, cache: Path | None = None, devices: int = 1, nodes: int = 1) -> bool:
    """As `fit` says. teacher_from: its run or package. cache: folder for its maps, which are then computed once.

    A student begins with the weights that it inherits; a resumed one with those of its checkpoint.
    """
    model, of_teacher = load_trained(teacher_from)
    settings, identity = check_pairing(config, of_teacher), fingerprint(model)
    maps = None
    if cache is not None and settings.asks_teacher:
        check_cacheable(config.training, of_teacher, settings)
        maps = MapCache(cache / f"{identity[:16]}-{config.training.precision}")
        maps.fill(model, of_teacher, config.training, index)
    teacher = Teacher(model, of_teacher, maps)

    def build(steps: int, begins: bool) -> ModelModule:
        module = ModelModule(config, steps, partial(Distiller, settings, teacher=teacher, student_config=config))
        if begins:
            begin(module.model, config)
            inherit_weights(module.model, model, settings.inherit)
        return module

    sees_sensors = settings.asks_teacher and maps is None
    load = partial(training_loader, config, index, workers, teacher=of_teacher if sees_sensors else None)
    halts = bool(settings.levels) and settings.learns_masks and settings.mask_stop_epoch is not None
    return fit(config, index, run, build, load, resume, interactive, devices, nodes,
               callbacks=[HaltMasks(settings.mask_stop_epoch)] if halts else [], idle_parameters=halts,
               record={"teacher": {"name": of_teacher.name, "from": str(teacher_from), "fingerprint": identity}})
