"""Page that shows bags in any browser, as one HTML file that needs neither ROS nor a network."""
