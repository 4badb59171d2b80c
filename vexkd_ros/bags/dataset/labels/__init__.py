"""Labels of a bag's objects: from its topic of annotations, or from the files of annotation tools."""
