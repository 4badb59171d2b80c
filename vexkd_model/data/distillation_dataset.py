"""Datasets for distillation: pairs of a student's and its teacher's samples, and frames without annotations beside
labelled ones."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from torch.utils.data import Dataset

from vexkd_model.data.batch import Batch, Sample
from vexkd_model.data.dataset import TrainingSet
from vexkd_model.data.sampling import Draw
from vexkd_model.errors import UserError

Pair = tuple[Sample | UserError, Sample | UserError]


class DistillationDataset(Dataset[Pair]):
    """Pairs of samples, the student's and the teacher's.

    Random numbers depend on the seed and the Draw alone, so that two sets of one seed augment alike.
    """

    def __init__(self, student: TrainingSet, teacher: TrainingSet) -> None:
        self.student, self.teacher = student, teacher

    def __len__(self) -> int:
        return len(self.student)

    def __getitem__(self, key: Draw | tuple[int, int]) -> Pair:
        return self.student[key], self.teacher[key]


class MixedDataset(Dataset):
    """Items of a labelled set, then those of an unlabelled one, numbered on."""

    def __init__(
        self, labelled: TrainingSet | DistillationDataset, unlabelled: TrainingSet | DistillationDataset
    ) -> None:
        self.labelled, self.unlabelled = labelled, unlabelled

    def __len__(self) -> int:
        return len(self.labelled) + len(self.unlabelled)

    def __getitem__(self, key: Draw | tuple[int, int]) -> Sample | UserError | Pair:
        draw, first = Draw(*key), len(self.labelled)
        if draw.frame < first:
            return self.labelled[draw]
        return self.unlabelled[draw._replace(frame=draw.frame - first)]


def collate_pairs(
    pairs: Sequence[Pair],
    student: Callable[[Sequence], Batch | UserError],
    teacher: Callable[[Sequence], Batch | UserError],
) -> Batch | UserError:
    """Collate pairs to the student's Batch with the teacher's sensors; student, teacher: collate functions of each."""
    batch, teacher_batch = student([sample for sample, _ in pairs]), teacher([sample for _, sample in pairs])
    if isinstance(batch, UserError) or isinstance(teacher_batch, UserError):
        return batch if isinstance(batch, UserError) else teacher_batch
    return replace(batch, teacher=teacher_batch.sensors)
