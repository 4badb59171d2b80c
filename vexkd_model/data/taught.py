"""A student's samples with what its teacher sees of the same moments."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from torch.utils.data import Dataset

from vexkd_model.data.batch import Batch
from vexkd_model.data.dataset import TrainingSet
from vexkd_model.data.sample import Sample
from vexkd_model.data.sampling import Draw
from vexkd_model.errors import UserError

Pair = tuple[Sample | UserError, Sample | UserError]


class TaughtSet(Dataset[Pair]):
    """Pairs of samples, the student's and the teacher's. Their random numbers depend on the seed and the Draw alone, so
    that two sets of one seed augment alike."""

    def __init__(self, student: TrainingSet, teacher: TrainingSet) -> None:
        self.student, self.teacher = student, teacher

    def __len__(self) -> int:
        return len(self.student)

    def __getitem__(self, key: Draw | tuple[int, int]) -> Pair:
        return self.student[key], self.teacher[key]


def collate_taught(pairs: Sequence[Pair], student: Callable[[Sequence], Batch | UserError],
                   teacher: Callable[[Sequence], Batch | UserError]) -> Batch | UserError:
    """The student's Batch with the teacher's sensors. student, teacher: how the samples of each become a batch."""
    batch, taught = student([sample for sample, _ in pairs]), teacher([sample for _, sample in pairs])
    if isinstance(batch, UserError) or isinstance(taught, UserError):
        return batch if isinstance(batch, UserError) else taught
    return replace(batch, teacher=taught.sensors)
