import numpy as np
import pytest

from side_jax.evidence.bitsets import column_sums, pack, union, unpack


@pytest.mark.parametrize(("count", "size"), [(1, 3), (64, 5), (65, 1), (1300, 7)])
def test_draws_come_back_in_order_whatever_their_number(count, size):
    table, drawn = np.random.default_rng(0).random((count, size)) < 0.5, 0

    def draw(number):
        nonlocal drawn
        drawn += number
        return table[drawn - number : drawn]

    bits = pack(draw, count, size)
    assert bits.shape == (size, -(-count // 64))
    np.testing.assert_array_equal(unpack(bits, count), table.T)
    assert sum(int(word).bit_count() for word in bits.ravel()) == table.sum()  # the bits beyond are 0


@pytest.mark.parametrize("rows", [0, 1, 2, 3, 64, 101])
def test_column_sums_are_sums(rows):
    table = np.random.default_rng(1).random((130, rows)) < 0.7
    bits = pack(lambda _: table, 130, rows)
    np.testing.assert_array_equal(column_sums([bits], 130), table.sum(1))
    np.testing.assert_array_equal(column_sums([bits[:7], ~bits, bits[7:]], 130), np.full(130, rows))


def test_union_by_hand():
    bits = np.array([[1], [2], [4], [8]], np.uint64)
    found = union(bits, np.array([3, 0, 1, 0]), np.array([2, 0, 2, 2]), 4)
    np.testing.assert_array_equal(found, [[1], [0], [11], [0]])
    np.testing.assert_array_equal(union(bits, np.zeros(0, int), np.zeros(0, int), 2), [[0], [0]])
