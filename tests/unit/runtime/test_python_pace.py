from analyzer.runtime.backends.python_pace import Pace


def test_a_process_gets_one_at_a_time_until_its_pace_is_known():
    assert Pace().depth == 1


def test_quick_executions_wait_in_the_process_so_many_that_they_last_a_while():
    pace = Pace()
    for _ in range(100):
        pace.took(45_000)
    assert pace.depth == 5
    for _ in range(100):
        pace.took(1)
    assert pace.depth == 16


def test_one_slow_execution_is_enough_for_caution():
    pace = Pace()
    for _ in range(100):
        pace.took(1_000)
    pace.took(5_000_000)
    assert pace.depth == 1
    pace.took(1_000)
    assert pace.depth == 1
