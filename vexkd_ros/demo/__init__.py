"""Demo: scenes → bags → the student as a ROS 2 node → official metrics and a page of what it published."""
