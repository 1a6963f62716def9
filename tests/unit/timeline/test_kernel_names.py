"""Kernels' names: demangled, and short as Nsight Systems has them."""

import sqlite3
from pathlib import Path

import pytest

from analyzer.timeline.kernel_names import demangled, labels, mangled, short_name

CAPTURE = Path(__file__).parents[2] / "data" / "nsight" / "dev.sqlite"
ADD = (
    "_ZN2at6native18elementwise_kernelILi128ELi2EZNS0_22gpu_kernel_impl_nocastINS0_15CUDAFunctor_addIfEEEEvRNS_18"
    "TensorIteratorBaseERKT_EUliE_EEviT1_"
)


def kernels_of_the_capture():
    query = (
        "SELECT DISTINCT long.value, short.value, raw.value FROM CUPTI_ACTIVITY_KIND_KERNEL AS kernel "
        "JOIN StringIds AS long ON long.id = kernel.demangledName JOIN StringIds AS short ON short.id = "
        "kernel.shortName JOIN StringIds AS raw ON raw.id = kernel.mangledName"
    )
    with sqlite3.connect(f"file:{CAPTURE}?mode=ro", uri=True) as db:
        rows = db.execute(query).fetchall()
    db.close()
    return rows


def test_short_names_are_those_of_nsight_systems_from_either_form():
    rows = kernels_of_the_capture()
    assert len(rows) >= 6
    for whole, short, raw in rows:
        assert (short_name(whole), short_name(raw)) == (short, short)


def test_a_mangled_name_is_demangled():
    if demangled(ADD) == ADD:
        pytest.skip("this machine has no C++ runtime")
    assert demangled(ADD).startswith("void at::native::elementwise_kernel<128, 2, ")
    assert "CUDAFunctor_add<float>" in demangled(ADD)


@pytest.mark.parametrize("name", ["", "_Z", "_ZNnonsense", "gemm", "void f<int>(int)", "_Zé"])
def test_what_can_not_be_demangled_stays_as_it_is(name):
    assert demangled(name) == name


@pytest.mark.parametrize(
    ("name", "short"),
    [
        ("gemm", "gemm"),
        ("", ""),
        ("void f<int>(int)", "f"),
        ("void (anonymous namespace)::softmax_warp<float, (int)10>(float*, float const*)", "softmax_warp"),
        ("a::b<c::d<(e)1>>::f(g::h) const", "f"),
        ("void cask::run(cask::Params)::{lambda(int)#1}::body<2>()", "body"),
        ("(only brackets)", "(only brackets)"),
        ("[CUDA memset]", "[CUDA memset]"),
        ("std::enable_if<true, void>::type k<float>(float*)", "k"),
    ],
)
def test_short_names(name, short):
    assert short_name(name) == short


def test_a_table_shows_short_names_where_they_tell_its_rows_apart():
    relu, gelu, gemm = "void n::elementwise<relu>(int)", "void n::elementwise<gelu>(int)", "void n::gemm<float>(int)"
    assert labels([relu, gelu, gemm]) == {relu: relu, gelu: gelu, gemm: "gemm"}


def test_a_name_of_c_is_its_own_mangled_name_and_a_demangled_one_has_lost_it():
    assert mangled("sm80_gemm_execute") == "sm80_gemm_execute"
    assert mangled(ADD) == ADD
    assert mangled("void f<int>(int)") is None
