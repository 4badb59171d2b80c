"""Documented commands that test_documented_commands.py does not run: a test that does, or what is not here."""

BAGS, NODES, ABLATION = "tests/ros/bags/test_", "tests/ros/node/test_", "tests/model/ablation/test_"
IMPORT, SYNTH = "tests/model/import_weights/test_", "tests/model/synth/test_synthesise.py"
ON_NUSCENES = "nuScenes, and GPUs for days"
FOR_HOURS = "hours; the same commands run here from other documents, for a step and a few scenes"
NETWORK, REAL, EARLIER = "a network", "a real keyframe, or a dataset of thousands of frames", "an earlier revision"
# A test that runs it, or what it needs and is not here → commands that are not run by this module.
LISTED = {
    f"{BAGS}demo.py::test_lost_keyframes_fail_and_the_next_run_goes_on_to_figures_that_equal_the_offline_ones": (
        "make demo",
        "make demo DATAROOT=/data/nuscenes VERSION=v1.0-mini",
    ),
    "tests/environment/test_documented_commands.py::test_every_command_is_run_or_listed_once": ("make test",),
    f"{NODES}doctor_live.py::test_a_sick_lidar_is_told_everything_at_once": (
        "vexkd-doctor --student models/lidar_distilled --points /your/lidar/points",
        "vexkd-doctor --student models/lidar_distilled --points /velodyne_points",
    ),
    f"{BAGS}bag_to_node.py::test_what_a_node_publishes_about_bags_is_what_offline_evaluation_finds": (
        "vexkd-student-node --ros-args -p model:=models/lidar_distilled -r points:=/your/lidar/points",
        "vexkd-student-node --ros-args -p model:=imported/centerpoint -r points:=/your/lidar/points",
        "vexkd-student-node --ros-args -p model:=students/mine -r points:=/your/lidar/points",
        "vexkd-bag-player bags/scene-0103 --wait-for-subscribers /lidar/points",
        "vexkd-bag-recorder --out published --namespace /student_node",
    ),
    f"{NODES}camera_student.py::test_an_unplugged_camera_is_masked_and_named_and_back_it_counts_again": (
        'vexkd-student-node --ros-args -p model:=students/camera -p cameras:="[front_left, front, front_right, '
        'back_left, back, back_right]" -p image_transport:=compressed',
    ),
    f"{NODES}output_topics.py::test_the_reliability_of_one_topic_is_a_parameter": (
        "vexkd-student-node --ros-args -p qos_overrides./student_node/markers.publisher.reliability:=best_effort …",
    ),
    f"{NODES}student_lifecycle.py::test_outputs_change_from_one_frame_to_the_next": (
        "ros2 param set /student_node outputs \"['detections', 'map']\"",
    ),
    f"{NODES}student_lifecycle.py::test_it_answers_only_while_it_is_active": (
        "ros2 lifecycle set /student_node deactivate",
        "ros2 lifecycle set /student_node cleanup",
        "ros2 param set /student_node model students/second",
        "ros2 lifecycle set /student_node configure",
        "ros2 lifecycle set /student_node activate",
    ),
    f"{NODES}track_node.py::test_objects_keep_their_numbers_while_the_vehicle_turns_and_their_velocity_is_found": (
        "vexkd-track-node --ros-args -r detections:=/student_node/detections",
    ),
    f"{NODES}comparison_node.py::test_a_hit_a_false_alarm_and_a_miss_stand_side_by_side": (
        "vexkd-comparison-node --ros-args -r detections:=/student_node/detections",
    ),
    f"{BAGS}player_and_recorder.py::test_a_loop_begins_again_and_the_clock_shows_every_stamp": (
        "vexkd-bag-player bags/* --rate 0.25 --loop --clock",
    ),
    f"{BAGS}player_and_recorder.py::test_what_is_played_is_recorded_byte_for_byte_and_at_its_rate": (
        "vexkd-bag-recorder --out both /lidar/points /student_node/detections --idle-timeout 10 --distro jazzy",
    ),
    f"{BAGS}evaluator.py::test_the_command_writes_the_figures_and_fails_in_one_line_where_frames_are_missing": (
        "vexkd-bag-evaluator published --dataroot data --version v1.0-mini --split mini_val",
    ),
    f"{BAGS}published_tracks.py::test_the_command_shows_and_writes_them": (
        "vexkd-bag-recorder --out published --namespace /student_node /track_node/tracks /track_node/markers",
        "vexkd-bag-evaluator published --track-node /track_node --dataroot data --version v1.0-mini --split mini_val",
    ),
    f"{BAGS}rerun_file.py::test_the_blueprint_shows_each_student_beside_the_cameras": (
        "vexkd-bag-view bags/scene-0103 --student models/lidar_plain --student models/lidar_distilled --out view.rrd",
    ),
    f"{BAGS}measure_sensors.py::test_the_bag_of_a_van_is_measured_as_the_van_was_described": (
        "vexkd-doctor --bag BAG --sensors-out sensors.yaml",
    ),
    f"{BAGS}measure_sensors.py::test_what_was_measured_can_be_imitated": (
        "vexkd synth simulated --preset bench-small --like sensors.yaml",
        "vexkd prepare simulated --version v1.0-trainval",
    ),
    "tests/model/training/test_adaptation.py::"
    "test_a_shipped_student_goes_on_with_a_new_sensor_and_its_card_says_which": (
        "vexkd train models/lidar_plain/model.yaml --weights models/lidar_plain --dataroot data --version mine "
        "--out runs/mine --set training.epochs=2 --set training.learning_rate=0.0005 --set training.precision=auto",
        "vexkd train models/lidar_plain/model.yaml --weights models/lidar_plain --dataroot simulated "
        "--version v1.0-trainval --out runs/van --set training.epochs=2 --set training.learning_rate=0.0005 "
        "--set training.precision=auto --set lidar.intensity_max=1",
        "vexkd export runs/van students/van",
    ),
    f"{BAGS}view.py::test_fewer_moments_are_evenly_chosen": (
        "vexkd-bag-view bags/scene-0103 published --out view.html",
    ),
    f"{BAGS}launch_files.py::test_a_replay_shows_the_student_beside_what_is_true": (
        "ros2 launch vexkd_ros replay.launch.py bags:=bags/scene-0103",
    ),
    f"{BAGS}launch_files.py::test_cameras_of_any_name_reach_the_student_and_arguments_beat_the_parameter_file": (
        "ros2 launch vexkd_ros student.launch.py modality:=camera model:=/path/to/student "
        "image:=/sensing/camera/{camera}/image_raw camera_info:=/sensing/camera/{camera}/camera_info",
        "ros2 launch vexkd_ros student.launch.py namespace:=second model:=/path/to/another",
    ),
    f"{ABLATION}ablate.py::test_rows_are_trained_evaluated_and_tabled_and_a_failure_stops_no_other": (
        "vexkd ablate masks_lidar --out ablations",
        "vexkd ablate study_lidar --out ablations --jobs 4",
        "vexkd ablate blocks --out ablations",
    ),
    f"{ABLATION}ablate.py::test_every_finished_run_leaves_a_record_that_a_new_machine_takes_for_the_run": (
        "vexkd ablate study_lidar --out ablations --records docs/results/runs",
        "vexkd ablate study_camera --out ablations --records docs/results/runs",
        "vexkd ablate study_lidar_short --out ablations --records docs/results/runs",
        "vexkd ablate unlabelled --out ablations --records docs/results/runs",
    ),
    f"{ABLATION}slurm.py::test_jobs_outlive_the_command_and_a_cancelled_one_resumes": (
        "vexkd ablate study_lidar --out ablations --slurm 240 --sbatch partition=gpu --sbatch gpus=1 "
        "--sbatch cpus-per-task=4",
    ),
    f"{ABLATION}study.py::test_a_rebuilt_study_is_the_same_to_the_byte_wherever_its_records_lie": (
        "vexkd tables docs/results/runs/study_lidar --out docs/results",
        "vexkd tables docs/results/runs/unlabelled --out docs/results",
        "vexkd tables docs/results/runs/study_lidar docs/results/runs/study_camera --out docs/results",
    ),
    "tests/model/figures/test_blocks_figure.py::test_points_and_bars_are_the_tables_means_and_deviations": (
        "vexkd plot blocks ablations/table.csv --out blocks.png",
    ),
    f"{IMPORT}import_weights.py::test_the_command_makes_a_package_of_them": (
        "vexkd import-weights centerpoint.pth centerpoint_voxel imported/centerpoint",
    ),
    f"{IMPORT}import_bevdet.py::test_version_2_has_our_boxes_and_frame_and_its_colours_are_brought_back": (
        'vexkd import-weights bevdet-r50.pth bevdet_r50 imported/bevdet --set grid="{extent: 51.2, cell: 0.8}" '
        "--set camera.view.z_min=-5.0 --set camera.view.z_max=3.0 --set camera.images.zoom=1.0",
    ),
    "tests/model/training/test_training.py::test_a_training_begins_with_the_weights_of_a_package_of_the_same_model": (
        "vexkd train imported/centerpoint/model.yaml --weights imported/centerpoint --dataroot data "
        "--version v1.0-trainval --out runs/tuned",
    ),
    "tests/model/training/test_unlabelled.py::test_a_mixture_is_recorded_and_resumed_with_the_same_frames_alone": (
        "vexkd distill lidar_pillar_small --teacher models/teacher --dataroot labelled --version v1.0-mini "
        "--unlabelled data:mine --out run",
    ),
    "tests/model/bench/test_bench.py::test_one_run_gives_inference_loading_and_training_as_tables_and_json": (
        "vexkd bench models/my_student --dataroot data --version v1.0-trainval --split val",
        "vexkd bench models/lidar_distilled models/camera_distilled --dataroot data --version v1.0-mini "
        "--split mini_val --frames 4 --repeats 4",
    ),
    "tests/model/training/test_distill.py::test_the_student_and_its_masks_learn_and_what_is_logged_says_so": (
        "vexkd distill config/model/lidar_pillar_small.yaml --teacher runs/teacher --dataroot data "
        "--version v1.0-trainval --out runs/taught",
    ),
    "tests/model/training/test_unlabelled.py::test_a_student_learns_from_unlabelled_drives_alone": (
        "vexkd distill lidar_pillar_small --teacher models/teacher --dataroot data --version mine --unlabelled "
        "--out run --set 'distillation.teacher_labels={}' --set segmentation=null",
    ),
    f"{SYNTH}::test_a_killed_run_leaves_no_half_scene_and_two_workers_complete_it_to_the_same_bytes": (
        "vexkd synth mini --preset demo --split mini_val --seed 1",
        "vexkd synth data --preset demo --seed 3 --scenes scene-0061,scene-0103",
    ),
    FOR_HOURS: (
        "vexkd train lidar_pillar_small --dataroot data --version v1.0-mini --out run",
        "vexkd distill config/model/vexkd_teacher_small.yaml --teacher runs/lidar --set training.epochs=2 …",
        "vexkd train config/model/lidar_pillar_small.yaml --weights models/lidar_distilled --set training.epochs=2 …",
        "vexkd distill config/model/lidar_pillar_small.yaml --teacher runs/teacher --cache cache "
        "--set training.epochs=2 --set 'distillation.inherit=[bev,detection,segmentation]' "
        "--set distillation.masks=ones …",
        "vexkd distill config/model/bevdet_small.yaml --teacher runs/teacher --cache cache "
        "--set training.epochs=2 --set 'distillation.inherit=[bev,detection,segmentation]' "
        "--set distillation.masks=ones …",
        "vexkd train config/model/vexkd_teacher_small.yaml --dataroot data --version v1.0-trainval --workers 1 "
        "--set training.epochs=3 --out runs/teacher",
        "vexkd train config/model/lidar_pillar_small.yaml --dataroot data --version v1.0-trainval --workers 1 "
        "--set training.epochs=3 --out runs/lidar_plain",
        "vexkd distill config/model/lidar_pillar_small.yaml --dataroot data --version v1.0-trainval --workers 1 "
        "--set training.epochs=3 --teacher runs/teacher --set distillation.mask_stop_epoch=1 "
        "--out runs/lidar_distilled",
        "vexkd train config/model/bevdet_small.yaml --dataroot data --version v1.0-trainval --workers 1 "
        "--set training.epochs=3 --out runs/camera_plain",
        "vexkd distill config/model/bevdet_small.yaml --dataroot data --version v1.0-trainval --workers 1 "
        "--set training.epochs=3 --teacher runs/teacher --set distillation.mask_stop_epoch=1 "
        "--out runs/camera_distilled",
        "vexkd train config/model/lidar_pillar_small.yaml --dataroot data --version v1.0-trainval --out runs/first "
        "--workers 1 --set training.epochs=4",
        "vexkd train config/model/bevdet_small.yaml --weights models/camera_distilled --set training.epochs=1 …",
        "vexkd synth more --preset bench-small-x4 --seed 1 --scenes $S --workers 2",
        "vexkd prepare more --version v1.0-trainval",
        "vexkd train config/model/lidar_pillar_small.yaml --weights models/lidar_distilled --dataroot more "
        "--version v1.0-trainval --split train --out runs/lidar_more --workers 1 --set training.epochs=2",
        "vexkd evaluate runs/lidar_more --dataroot data --version v1.0-trainval --split val --errors "
        "--json runs/lidar_more.json",
        "vexkd export runs/lidar_more models/lidar_distilled --evaluation runs/lidar_more.json",
        "vexkd synth data-x4 --preset bench-small-x4 --seed 1 --workers 2",
        "vexkd prepare data-x4 --version v1.0-trainval --workers 2",
        "vexkd synth data --preset bench-small --seed 21 --scenes $S --workers 2",
    ),
    NETWORK: (
        "pip install submitit",
        "pip install --no-deps 'rerun-sdk>=0.41' psutil",
        ".venv/bin/pip uninstall -y spconv cumm",
        ".venv/bin/pip install --no-build-isolation -c environment/constraints-3.11.txt -e '.[cu126]'",
        "docker build -t vexkd .",
        "docker run --rm -it --network host --ipc host vexkd make demo",
        "docker run --rm -it --network host --ipc host vexkd",
    ),
    EARLIER: (
        "git checkout 84c5aa1",
        "python benchmarks/class_confusion.py data --version v1.0-trainval --figure docs/results/class_confusion.png",
        "python benchmarks/headroom.py config/model/lidar_pillar_small.yaml --dataroot data-x4 --out runs/headroom "
        "--scenes 44 700",
        "python benchmarks/headroom.py config/model/lidar_pillar_small.yaml --dataroot data-x4 "
        "--out runs/headroom-short --steps 1048 --scenes 44 88 700",
        "python benchmarks/val_standard_error.py --dataroot data --version v1.0-trainval --split val "
        "--submission submission.json",
    ),
    REAL: (
        "python benchmarks/bag_conversion.py ../shared/nuscenes_keyframe --frames 40",
        "python benchmarks/loading.py ../shared/nuscenes_keyframe",
        "python benchmarks/scale.py data --version v1.0-mini --split mini_val --rounds 3 "
        "--figure docs/results/scale.png",
    ),
    "minutes of an idle machine, to an hour": (
        "python benchmarks/node_on_bag.py bags/scene-0103 --student models/lidar_distilled",
        "python benchmarks/node_on_bag.py bags/scene-0103 --student models/camera_distilled --rate 6 --seconds 60",
        "nice -n 5 python benchmarks/soak.py bags/scene-0103 --minutes 60 --json soak.json",
        "vexkd synth demo --preset demo --split mini_val --seed 7",
        "vexkd prepare demo --version v1.0-mini",
        "vexkd plot students models/lidar_plain models/lidar_distilled models/camera_plain models/camera_distilled "
        "models/teacher --dataroot demo --version v1.0-mini --split mini_val --frame 10 --out students.png",
        "vexkd synth mini --preset demo --split mini_val --seed 7",
        "vexkd-student-node --ros-args -r points:=/lidar/points -p model:=models/lidar_distilled "
        "-p score_threshold:=0.0 -p input_reliability:=reliable",
        "vexkd-track-node --ros-args -r detections:=/student_node/detections -p score_threshold:=0.1",
        "vexkd-bag-recorder --out published /student_node/detections /student_node/markers /track_node/tracks "
        "/track_node/markers",
        "vexkd-bag-player bags/scene-0103 bags/scene-0916 --rate 0.05 --wait-for-subscribers /lidar/points "
        "/track_node/tracks",
        "vexkd-bag-evaluator published --track-node /track_node --dataroot mini --version v1.0-mini --split mini_val",
    ),
    ON_NUSCENES: (
        "vexkd prepare /data/nuscenes --version v1.0-trainval --workers 16",
        "vexkd train config/model/centerpoint_voxel.yaml --dataroot /data/nuscenes --version v1.0-trainval "
        "--devices 8 --workers 8 --out runs/lidar",
        "vexkd distill config/model/vexkd_teacher.yaml --teacher runs/lidar --set 'distillation={levels: [], "
        "inherit: [lidar, bev]}' … --out runs/teacher",
        "vexkd distill config/model/centerpoint_pillar.yaml --teacher runs/teacher --set training.paste=null … "
        "--out runs/lidar_distilled",
        "vexkd distill config/model/bevdet_r50.yaml --teacher runs/teacher "
        "--set camera.backbone.weights=microsoft/resnet-50 … --out runs/camera_distilled",
        "vexkd evaluate runs/lidar_distilled --dataroot /data/nuscenes --version v1.0-trainval --split val "
        "--device cuda",
    ),
}
