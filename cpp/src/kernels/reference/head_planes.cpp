// The products of the head as tercet/head_kernels.hpp defines them, column by column.
#include "../generic/head_scaling.hpp"
#include "../generic/logit_scans.hpp"
#include "../generic/plane_products.hpp"

namespace tercet::reference {
namespace {

// out[v][i] = unit * out[v][i] + the product with a plane of 8 / bits columns a byte.
template <std::size_t bits>
void add_plane(const PlaneMatmul& task, const std::uint8_t* plane, std::int32_t unit) noexcept {
    constexpr std::size_t fields = 8 / bits, bytes = plane_chunk_columns / fields;
    constexpr std::int32_t mask = (1 << bits) - 1;
    for (std::size_t i = 0; i < task.num_rows; ++i) {
        const std::uint8_t* row = plane + task.row(i) * task.chunks * bytes;
        for (std::size_t v = 0; v < task.num_vectors; ++v) {
            const std::int8_t* vector = task.vectors + v * task.vector_stride;
            std::int32_t sum = 0;
            for (std::size_t chunk = 0; chunk < task.chunks; ++chunk)
                for (std::size_t field = 0; field < fields; ++field)
                    for (std::size_t j = 0; j < bytes; ++j)
                        sum += (row[chunk * bytes + j] >> (bits * field) & mask) *
                               vector[chunk * plane_chunk_columns + field * bytes + j];
            std::int32_t& out = task.out[v * task.out_stride + i];
            out = unit == 0 ? sum : unit * out + sum;
        }
    }
}

using Products = PlaneProducts<add_plane<4>, add_plane<2>>;

}  // namespace

void install_head(HeadKernels& kernels) noexcept {
    kernels = {Products::high, Products::eight, Products::six, scale_products, block_maxima, sum_of_exponentials};
}

}  // namespace tercet::reference
