"""ROS 2 side of VeXKD: nodes, bags, messages. Reaches the models only through Frame in, Prediction out."""
