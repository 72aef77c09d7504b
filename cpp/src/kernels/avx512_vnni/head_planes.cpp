// The products of the head with vpdpbusd: 64 bytes of a plane are 64 columns in their lower and 64 in their upper halves.
//
// Memory sets the pace (a table has hundreds of megabytes and is read once a token), so four rows are read at the same
// time, a quarter of the task apart, with prefetches into L2 running ahead. High and low bits of a code are put together
// before they are multiplied: with two vectors (the coarse and the fine half of one token) that is about 4 instructions
// beside 4 vpdpbusd for 128 weights. More than four vectors take turns; the four rows are in L1 by then.
//
// The sums of the 16 lanes of four rows are added across as a tree, which matters where rows are short.
#include <immintrin.h>

#include "../generic/head_scaling.hpp"
#include "../generic/logit_scans.hpp"

namespace tercet::avx512_vnni {
namespace {

enum class Form { high, eight, six };

constexpr std::size_t streams = 4;
constexpr std::size_t max_block_vectors = 4;
constexpr std::size_t read_ahead_bytes = 2048;

constexpr std::size_t low_chunk_bytes(Form form) {
    return form == Form::eight ? four_bit_chunk_bytes : form == Form::six ? two_bit_chunk_bytes : 0;
}

// Where a row is in both planes, and what to bring into L2 while it is multiplied.
struct Row {
    const std::uint8_t *high, *low, *high_ahead, *low_ahead;
};

// The codes of a chunk: columns 0 to 63, then 64 to 127.
template <Form form>
[[gnu::always_inline]] inline void load_codes(const Row& row, std::size_t chunk, __m512i (&codes)[2]) {
    const __m512i low_nibble = _mm512_set1_epi8(0x0F);
    const __m512i high = _mm512_loadu_si512(row.high + chunk * four_bit_chunk_bytes);
    _mm_prefetch(row.high_ahead + chunk * four_bit_chunk_bytes, _MM_HINT_T1);
    if constexpr (form != Form::high) _mm_prefetch(row.low_ahead + chunk * low_chunk_bytes(form), _MM_HINT_T1);
    if constexpr (form == Form::high) {
        codes[0] = _mm512_and_si512(high, low_nibble);
        codes[1] = _mm512_and_si512(_mm512_srli_epi16(high, 4), low_nibble);
    } else if constexpr (form == Form::eight) {
        constexpr int first_chooses = 0xCA;  // a ? b : c, bit by bit
        const __m512i low = _mm512_loadu_si512(row.low + chunk * four_bit_chunk_bytes);
        codes[0] = _mm512_ternarylogic_epi32(low_nibble, low, _mm512_slli_epi16(high, 4), first_chooses);
        codes[1] = _mm512_ternarylogic_epi32(low_nibble, _mm512_srli_epi16(low, 4), high, first_chooses);
    } else {
        const __m512i three = _mm512_set1_epi8(0x03), upper = _mm512_set1_epi8(0x3C);
        const __m512i shifts = _mm512_inserti64x4(_mm512_setzero_si512(), _mm256_set1_epi16(2), 1);
        const __m256i bytes = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(row.low + chunk * two_bit_chunk_bytes));
        const __m512i low = _mm512_srlv_epi16(_mm512_broadcast_i64x4(bytes), shifts);
        constexpr int and_or = 0xF8;  // a | (b & c)
        codes[0] = _mm512_ternarylogic_epi32(_mm512_and_si512(_mm512_slli_epi16(high, 2), upper), low, three, and_or);
        codes[1] = _mm512_ternarylogic_epi32(_mm512_and_si512(_mm512_srli_epi16(high, 2), upper),
                                             _mm512_srli_epi16(low, 4), three, and_or);
    }
}

// The sums of all lanes of four accumulators.
[[gnu::always_inline]] inline __m128i sum_lanes(const __m512i (&sums)[4]) {
    __m256i halves[4];
#pragma GCC unroll 4
    for (std::size_t i = 0; i < 4; ++i)
        halves[i] = _mm256_add_epi32(_mm512_castsi512_si256(sums[i]), _mm512_extracti64x4_epi64(sums[i], 1));
    const __m256i four = _mm256_hadd_epi32(_mm256_hadd_epi32(halves[0], halves[1]), _mm256_hadd_epi32(halves[2], halves[3]));
    return _mm_add_epi32(_mm256_castsi256_si128(four), _mm256_extracti128_si256(four, 1));
}

// Four rows with a few vectors; result[v] holds the products of the four.
template <Form form, std::size_t vectors>
void multiply_four(const Row (&rows)[streams], std::size_t chunks, const std::int8_t* activations, std::size_t stride,
                   __m128i* result) {
    __m512i sums[vectors][streams] = {};
    for (std::size_t chunk = 0; chunk < chunks; ++chunk, activations += plane_chunk_columns) {
        __m512i codes[streams][2];
#pragma GCC unroll 4
        for (std::size_t stream = 0; stream < streams; ++stream) load_codes<form>(rows[stream], chunk, codes[stream]);
#pragma GCC unroll 4
        for (std::size_t v = 0; v < vectors; ++v)
#pragma GCC unroll 2
            for (std::size_t half = 0; half < 2; ++half) {
                const __m512i columns = _mm512_loadu_si512(activations + v * stride + 64 * half);
#pragma GCC unroll 4
                for (std::size_t stream = 0; stream < streams; ++stream)
                    sums[v][stream] = _mm512_dpbusd_epi32(sums[v][stream], codes[stream][half], columns);
            }
    }
#pragma GCC unroll 4
    for (std::size_t v = 0; v < vectors; ++v) result[v] = sum_lanes(sums[v]);
}

template <Form form>
void multiply_block(const Row (&rows)[streams], const PlaneMatmul& task, std::size_t vector, std::size_t count,
                    __m128i* result) {
    const std::int8_t* activations = task.vectors + vector * task.vector_stride;
    switch (count) {
        case 1:
            return multiply_four<form, 1>(rows, task.chunks, activations, task.vector_stride, result);
        case 2:
            return multiply_four<form, 2>(rows, task.chunks, activations, task.vector_stride, result);
        case 3:
            return multiply_four<form, 3>(rows, task.chunks, activations, task.vector_stride, result);
        default:
            return multiply_four<form, 4>(rows, task.chunks, activations, task.vector_stride, result);
    }
}

template <Form form>
void multiply(const PlaneMatmul& task) noexcept {
    const std::size_t high_bytes = task.chunks * four_bit_chunk_bytes, low_bytes = task.chunks * low_chunk_bytes(form);
    // Rows i, distance + i, ... at the same time; the last ones again where the task is no multiple of four.
    const std::size_t distance = (task.num_rows + streams - 1) / streams, last = task.num_rows - 1;
    for (std::size_t i = 0; i < distance; ++i) {
        Row rows[streams];
        std::size_t index[streams];
        for (std::size_t stream = 0; stream < streams; ++stream) {
            index[stream] = stream * distance + i < last ? stream * distance + i : last;
            const std::size_t row = task.row(index[stream]);
            rows[stream] = {task.high + row * high_bytes, task.low + row * low_bytes, nullptr, nullptr};
            if (task.rows == nullptr) {
                rows[stream].high_ahead = rows[stream].high + read_ahead_bytes;
                rows[stream].low_ahead = rows[stream].low + read_ahead_bytes;
            } else {
                const std::size_t next = task.row(index[stream] < last ? index[stream] + 1 : last);
                rows[stream].high_ahead = task.high + next * high_bytes;
                rows[stream].low_ahead = task.low + next * low_bytes;
            }
        }
        for (std::size_t vector = 0; vector < task.num_vectors; vector += max_block_vectors) {
            const std::size_t left = task.num_vectors - vector;
            const std::size_t count = left < max_block_vectors ? left : max_block_vectors;
            __m128i result[max_block_vectors];
            multiply_block<form>(rows, task, vector, count, result);
            for (std::size_t v = 0; v < count; ++v) {
                alignas(16) std::int32_t products[streams];
                _mm_store_si128(reinterpret_cast<__m128i*>(products), result[v]);
                for (std::size_t stream = 0; stream < streams; ++stream)
                    task.out[(vector + v) * task.out_stride + index[stream]] = products[stream];
            }
        }
    }
}

void multiply_high(const PlaneMatmul& task) noexcept { multiply<Form::high>(task); }
void multiply_eight(const PlaneMatmul& task) noexcept { multiply<Form::eight>(task); }
void multiply_six(const PlaneMatmul& task) noexcept { multiply<Form::six>(task); }

}  // namespace

void install_head(HeadKernels& kernels) noexcept {
    kernels = {multiply_high, multiply_eight, multiply_six, scale_products, block_maxima, sum_of_exponentials};
}

}  // namespace tercet::avx512_vnni
