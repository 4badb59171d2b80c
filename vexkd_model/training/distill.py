"""`vexkd distill`: train a student on its tasks and on a teacher's BEV maps."""

from pathlib import Path
from typing import Any

from vexkd_model.config import ModelConfig
from vexkd_model.criterion import build_criterion
from vexkd_model.data.identity import data_identity
from vexkd_model.data.index import FrameIndex
from vexkd_model.data.requirements import check_evaluable, check_inputs, check_trainable
from vexkd_model.distill.distiller import Distiller
from vexkd_model.distill.inherit import inherit_weights
from vexkd_model.distill.map_cache import MapCache, check_cacheable
from vexkd_model.distill.pairing import check_heads_are_taught, check_pairing
from vexkd_model.distill.teacher import Teacher, fingerprint
from vexkd_model.machine import choose_device
from vexkd_model.model import build_model
from vexkd_model.training.data_module import TrainingDataModule
from vexkd_model.training.fit import build_trainer, fit, started_run
from vexkd_model.training.module import DistillationModule
from vexkd_model.training.processes import trainer_arguments
from vexkd_model.training.run import describe_data, load_trained
from vexkd_model.training.train import initialise_weights


def distill(
    config: ModelConfig,
    teacher_from: Path,
    index: FrameIndex,
    run: Path,
    workers: int,
    resume: bool,
    interactive: bool,
    cache: Path | None = None,
    devices: int = 1,
    nodes: int = 1,
    device: str = "auto",
    unlabelled: FrameIndex | None = None,
) -> bool:
    """Train a student with a teacher; arguments and result as of `train`.

    teacher_from: its run or package. cache: folder for its maps, which are then computed once. unlabelled: frames that
    the teacher alone teaches, beside those of `index`, or `index` itself where no frame shall have annotations.
    """
    if unlabelled is not index:
        check_trainable(config, index)
    if unlabelled is not None:
        check_inputs(config, unlabelled)
    model, teacher_config = load_trained(teacher_from)
    check_evaluable(teacher_config, index, predictions_alone=True)  # its sensors; targets are the student's
    settings, identity = check_pairing(config, teacher_config), fingerprint(model)
    if unlabelled is index:
        check_heads_are_taught(settings, config)
    sources = [index] if unlabelled is None or unlabelled is index else [index, unlabelled]
    maps = None
    if cache is not None and settings.needs_teacher:
        check_cacheable(config.training, settings)
        of_data = "-".join(data_identity(source).files[:16] for source in sources)
        maps = MapCache(cache / f"{identity[:16]}-{of_data}-{config.training.precision}")
        for source in sources:
            maps.fill(model, teacher_config, config.training, source, choose_device(device))
    teacher = Teacher(model, teacher_config, maps)

    processes = trainer_arguments(devices, nodes, idle_parameters=settings.freezes_masks, device=device)
    trainer = build_trainer(config.training, run, interactive, processes)
    reads_sensors = settings.needs_teacher and maps is None
    record: dict[str, Any] = {
        "teacher": {"name": teacher_config.name, "from": str(teacher_from), "fingerprint": identity}
    }
    if unlabelled is not None:
        record["unlabelled"] = {**describe_data(unlabelled), "identity": data_identity(unlabelled)._asdict()}
    with started_run(trainer, config, index, resume, record) as start:
        data = TrainingDataModule(
            config, index, workers, start.shard, start.epoch, teacher_config if reads_sensors else None, unlabelled
        )
        student = build_model(config)
        distiller = Distiller(settings, student, teacher, build_criterion(config))
        if start.checkpoint is None:
            initialise_weights(student, config)
            inherit_weights(student, model, settings.inherit)
        return fit(trainer, DistillationModule(config, student, distiller, data.total_steps), data, start.checkpoint)
