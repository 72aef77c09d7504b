// A large matrix has a scale for every 128 weights: 16 rows are transposed in squares of 4 x 4, or this would take as
// long as the product.
#include "ops/lane_scales.hpp"

#include <algorithm>
#include <cstring>

namespace tercet {
namespace {

using Four = float __attribute__((vector_size(16)));

Four load(const float* from) noexcept {
    Four four;
    std::memcpy(&four, from, sizeof four);
    return four;
}

// Four scales of each of four rows, that are `stride` apart, to four groups of lanes.
void transpose(const float* from, std::size_t stride, float* to) noexcept {
    const Four a = load(from), b = load(from + stride), c = load(from + 2 * stride), d = load(from + 3 * stride);
    const Four ab_low = __builtin_shufflevector(a, b, 0, 4, 1, 5), ab_high = __builtin_shufflevector(a, b, 2, 6, 3, 7);
    const Four cd_low = __builtin_shufflevector(c, d, 0, 4, 1, 5), cd_high = __builtin_shufflevector(c, d, 2, 6, 3, 7);
    const Four groups[4] = {
        __builtin_shufflevector(ab_low, cd_low, 0, 1, 4, 5), __builtin_shufflevector(ab_low, cd_low, 2, 3, 6, 7),
        __builtin_shufflevector(ab_high, cd_high, 0, 1, 4, 5), __builtin_shufflevector(ab_high, cd_high, 2, 3, 6, 7)};
    for (std::size_t g = 0; g < 4; ++g) std::memcpy(to + g * two_bit_tile_rows, &groups[g], sizeof groups[g]);
}

}  // namespace

void spread_scales(const TernaryMatrix& matrix, std::size_t first_row, std::size_t rows, float* lanes) noexcept {
    const std::size_t groups = matrix.groups();
    for (std::size_t begin = 0; begin < rows; begin += two_bit_tile_rows, lanes += groups * two_bit_tile_rows) {
        const std::size_t row = first_row + begin, here = std::min(two_bit_tile_rows, rows - begin);
        if (!matrix.grouped()) {
            for (std::size_t r = 0; r < here; ++r) lanes[r] = matrix.scales[(row + r) * matrix.scale_step];
            std::fill(lanes + here, lanes + two_bit_tile_rows, 0.0F);
            continue;
        }
        const float* from = matrix.scales + row * groups;
        std::size_t group = 0;
        if (here == two_bit_tile_rows) {
            for (; group + 4 <= groups; group += 4)
                for (std::size_t r = 0; r < two_bit_tile_rows; r += 4)
                    transpose(from + r * groups + group, groups, lanes + group * two_bit_tile_rows + r);
        }
        for (; group < groups; ++group)
            for (std::size_t r = 0; r < two_bit_tile_rows; ++r)
                lanes[group * two_bit_tile_rows + r] = r < here ? from[r * groups + group] : 0.0F;
    }
}

}  // namespace tercet
