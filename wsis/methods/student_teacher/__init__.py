"""A student as teacher: self-training.

Any Detectron2 model with a mask head makes the masks of given boxes: no proposals, no suppression, one mask per box.
Masks of one round train the next one's student; a student of the images that have true masks makes those of the
others; public models make masks of the classes that they know. In training mode it is the student.
"""

from wsis.methods.student_teacher.meta_arch import StudentTeacher

__all__ = ["StudentTeacher"]
