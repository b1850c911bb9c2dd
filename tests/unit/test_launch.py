from tigerflow.tasks.shell.launch import starting_directory


def test_a_process_starts_at_its_home_or_where_that_is_missing_in_the_run_directory(
    tmp_path,
):
    home, run_dir = tmp_path / "home", tmp_path / "out"
    run_dir.mkdir()

    assert starting_directory(str(home), run_dir) == run_dir
    home.mkdir()
    assert starting_directory(str(home), run_dir) == home
