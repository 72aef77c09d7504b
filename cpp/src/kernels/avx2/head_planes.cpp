// The products of the head with vpmaddubsw. It adds pairs of products in 16 bits, where four bits times int8 have room for
// eight pairs (8 * 2 * 15 * 128 < 2^15) and whole codes would not fit: so the planes are multiplied one after the other.
#include <immintrin.h>

#include "../generic/head_scaling.hpp"
#include "../generic/logit_scans.hpp"
#include "../generic/plane_products.hpp"

namespace tercet::avx2 {
namespace {

constexpr std::size_t streams = 2;
constexpr std::size_t read_ahead_bytes = 1024;

[[gnu::always_inline]] inline __m256i load(const void* from) {
    return _mm256_loadu_si256(static_cast<const __m256i*>(from));
}

// Adds one chunk of one row times one vector to 8 sums.
template <std::size_t bits>
[[gnu::always_inline]] inline __m256i add_chunk(const std::uint8_t* row, const std::int8_t* columns, __m256i sums) {
    constexpr std::size_t fields = 8 / bits, bytes = plane_chunk_columns / fields;
    const __m256i mask = _mm256_set1_epi8((1 << bits) - 1);
    __m256i pairs = _mm256_setzero_si256();  // at most 4 additions
#pragma GCC unroll 2
    for (std::size_t part = 0; part < bytes; part += 32) {
        __m256i codes = load(row + part);
#pragma GCC unroll 4
        for (std::size_t field = 0; field < fields; ++field) {
            const __m256i products = _mm256_maddubs_epi16(_mm256_and_si256(codes, mask), load(columns + field * bytes + part));
            pairs = _mm256_add_epi16(pairs, products);
            codes = _mm256_srli_epi16(codes, bits);
        }
    }
    return _mm256_add_epi32(sums, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
}

[[gnu::always_inline]] inline std::int32_t sum_lanes(__m256i sums) {
    __m128i four = _mm_add_epi32(_mm256_castsi256_si128(sums), _mm256_extracti128_si256(sums, 1));
    four = _mm_hadd_epi32(four, four);
    return _mm_cvtsi128_si32(_mm_hadd_epi32(four, four));
}

// Two rows with one or two vectors.
template <std::size_t bits, std::size_t vectors>
void multiply_two(const std::uint8_t* const (&rows)[streams], std::size_t chunks, const std::int8_t* columns,
                  std::size_t stride, std::int32_t (&result)[2][streams]) {
    constexpr std::size_t bytes = plane_chunk_columns * bits / 8;
    __m256i sums[vectors][streams] = {};
    for (std::size_t chunk = 0; chunk < chunks; ++chunk)
#pragma GCC unroll 2
        for (std::size_t stream = 0; stream < streams; ++stream) {
            const std::uint8_t* row = rows[stream] + chunk * bytes;
            _mm_prefetch(row + read_ahead_bytes, _MM_HINT_T1);
#pragma GCC unroll 2
            for (std::size_t v = 0; v < vectors; ++v)
                sums[v][stream] = add_chunk<bits>(row, columns + v * stride + chunk * plane_chunk_columns, sums[v][stream]);
        }
    for (std::size_t v = 0; v < vectors; ++v)
        for (std::size_t stream = 0; stream < streams; ++stream) result[v][stream] = sum_lanes(sums[v][stream]);
}

// out[v][i] = unit * out[v][i] + the product with a plane.
template <std::size_t bits>
void add_plane(const PlaneMatmul& task, const std::uint8_t* plane, std::int32_t unit) noexcept {
    const std::size_t row_bytes = task.chunks * plane_chunk_columns * bits / 8;
    const std::size_t distance = (task.num_rows + 1) / streams;
    for (std::size_t i = 0; i < distance; ++i) {
        // Of an odd number of rows, the last one keeps its place and shares it with itself.
        const std::size_t index[streams] = {i, distance + i < task.num_rows ? distance + i : i};
        const std::uint8_t* rows[streams] = {plane + task.row(index[0]) * row_bytes, plane + task.row(index[1]) * row_bytes};
        for (std::size_t vector = 0; vector < task.num_vectors; vector += 2) {
            const std::int8_t* columns = task.vectors + vector * task.vector_stride;
            const std::size_t count = task.num_vectors - vector < 2 ? 1 : 2;
            std::int32_t result[2][streams];
            if (count == 2)
                multiply_two<bits, 2>(rows, task.chunks, columns, task.vector_stride, result);
            else
                multiply_two<bits, 1>(rows, task.chunks, columns, task.vector_stride, result);
            for (std::size_t v = 0; v < count; ++v)
                for (std::size_t stream = 0; stream < (index[0] == index[1] ? 1 : streams); ++stream) {
                    std::int32_t& out = task.out[(vector + v) * task.out_stride + index[stream]];
                    out = unit == 0 ? result[v][stream] : unit * out + result[v][stream];
                }
        }
    }
}

using Products = PlaneProducts<add_plane<4>, add_plane<2>>;

}  // namespace

void install_head(HeadKernels& kernels) noexcept {
    kernels = {Products::high, Products::eight, Products::six, scale_products, block_maxima, sum_of_exponentials};
}

}  // namespace tercet::avx2
