// f32x16 and i32x16: sixteen lanes, held in as many registers as the instruction set of this translation unit needs.
//
//     AVX-512   1 register  of 16 lanes
//     AVX2      2 registers of  8
//     SSE, NEON 4 registers of  4
//
// The kernels above are written on these two types only, so lane l means the same element everywhere and every ISA adds
// in the same order. GCC and Clang would also lower one 64-byte vector type, but GCC keeps such a vector in memory when
// the registers are smaller; an array of native registers is always taken apart.
//
// Included by one file of each ISA folder. Everything is in an anonymous namespace: code compiled with wide-vector flags
// must not leave a symbol that the linker could pick for everyone.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#if defined(__ARM_NEON)
#include <arm_neon.h>
#elif defined(__AVX2__)
#include <immintrin.h>
#endif

#define TERCET_INLINE [[gnu::always_inline]] inline
#define TERCET_LAMBDA __attribute__((always_inline))

namespace tercet {
namespace {

#if defined(__AVX512F__)
constexpr std::size_t register_bytes = 64;
#elif defined(__AVX2__)
constexpr std::size_t register_bytes = 32;
#else
constexpr std::size_t register_bytes = 16;
#endif

constexpr std::size_t lanes = 16;
constexpr std::size_t register_lanes = register_bytes / 4;
constexpr std::size_t num_registers = lanes / register_lanes;

using f32_register = float __attribute__((vector_size(register_bytes)));
using i32_register = std::int32_t __attribute__((vector_size(register_bytes)));
using u32_register = std::uint32_t __attribute__((vector_size(register_bytes)));
using u16_half_register = std::uint16_t __attribute__((vector_size(register_bytes / 2)));
using i8_quarter_register = std::int8_t __attribute__((vector_size(register_bytes / 4)));

struct f32x16 {
    f32_register part[num_registers];
};
struct i32x16 {
    i32_register part[num_registers];
};

// One lane-wise definition per operator; the loop over registers unrolls away.
#define TERCET_LANEWISE(result, name, parameters, expression) \
    TERCET_INLINE result name parameters {                    \
        result out;                                           \
        for (std::size_t p = 0; p < num_registers; ++p) {     \
            out.part[p] = expression;                         \
        }                                                     \
        return out;                                           \
    }

TERCET_LANEWISE(f32x16, operator+, (f32x16 a, f32x16 b), a.part[p] + b.part[p])
TERCET_LANEWISE(f32x16, operator-, (f32x16 a, f32x16 b), a.part[p] - b.part[p])
TERCET_LANEWISE(f32x16, operator*, (f32x16 a, f32x16 b), a.part[p] * b.part[p])
TERCET_LANEWISE(f32x16, operator/, (f32x16 a, f32x16 b), a.part[p] / b.part[p])
TERCET_LANEWISE(i32x16, operator+, (i32x16 a, i32x16 b), a.part[p] + b.part[p])
TERCET_LANEWISE(i32x16, operator-, (i32x16 a, i32x16 b), a.part[p] - b.part[p])
TERCET_LANEWISE(i32x16, operator&, (i32x16 a, i32x16 b), a.part[p] & b.part[p])
TERCET_LANEWISE(i32x16, shift_left, (i32x16 a, int count), a.part[p] << count)

TERCET_LANEWISE(f32x16, splat, (float value), value - f32_register{})  // exact for -0 as well, so it costs nothing
TERCET_LANEWISE(i32x16, splat, (std::int32_t value), i32_register{} + value)
TERCET_LANEWISE(f32x16, bits_as_float, (i32x16 a), reinterpret_cast<f32_register>(a.part[p]))
TERCET_LANEWISE(i32x16, float_as_bits, (f32x16 a), reinterpret_cast<i32_register>(a.part[p]))
TERCET_LANEWISE(f32x16, to_float, (i32x16 a), __builtin_convertvector(a.part[p], f32_register))

// a where a is greater (less), else b: a NaN in a is dropped, a NaN in b is kept.
TERCET_LANEWISE(f32x16, greater, (f32x16 a, f32x16 b), a.part[p] > b.part[p] ? a.part[p] : b.part[p])
TERCET_LANEWISE(i32x16, greater, (i32x16 a, i32x16 b), a.part[p] > b.part[p] ? a.part[p] : b.part[p])
TERCET_LANEWISE(i32x16, lesser, (i32x16 a, i32x16 b), a.part[p] < b.part[p] ? a.part[p] : b.part[p])
// yes where a < b (false for a NaN), else no.
TERCET_LANEWISE(f32x16, where_less, (f32x16 a, f32x16 b, f32x16 yes, f32x16 no),
                a.part[p] < b.part[p] ? yes.part[p] : no.part[p])

#undef TERCET_LANEWISE

TERCET_INLINE f32x16 zeros() { return splat(0.0F); }

// Register by register: a 64-byte copy would go through memory.
template <class Value, class Element>
TERCET_INLINE Value load_lanes(const Element* from) {
    Value value;
    for (std::size_t p = 0; p < num_registers; ++p) {
        std::memcpy(&value.part[p], from + p * register_lanes, register_bytes);
    }
    return value;
}

TERCET_INLINE f32x16 load(const float* from) { return load_lanes<f32x16>(from); }
TERCET_INLINE i32x16 load(const std::int32_t* from) { return load_lanes<i32x16>(from); }
// Widened, exactly. GCC 12 takes a conversion from 8 to 32 bits apart, byte by byte, so it is spelled out where it counts.
TERCET_INLINE f32x16 load(const std::int8_t* from) {
    i32x16 wide;
#if defined(__AVX512F__)
    const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i_u*>(from));
    wide.part[0] = reinterpret_cast<i32_register>(_mm512_maskz_cvtepi8_epi32(0xFFFF, bytes));  // maskz: GCC 12 warns without
#elif defined(__AVX2__)
    for (std::size_t p = 0; p < num_registers; ++p)
        wide.part[p] = reinterpret_cast<i32_register>(_mm256_cvtepi8_epi32(_mm_loadu_si64(from + p * register_lanes)));
#elif defined(__ARM_NEON)
    const int8x16_t bytes = vld1q_s8(from);
    const int16x8_t low = vmovl_s8(vget_low_s8(bytes)), high = vmovl_high_s8(bytes);
    wide.part[0] = reinterpret_cast<i32_register>(vmovl_s16(vget_low_s16(low)));
    wide.part[1] = reinterpret_cast<i32_register>(vmovl_high_s16(low));
    wide.part[2] = reinterpret_cast<i32_register>(vmovl_s16(vget_low_s16(high)));
    wide.part[3] = reinterpret_cast<i32_register>(vmovl_high_s16(high));
#else
    for (std::size_t p = 0; p < num_registers; ++p) {
        i8_quarter_register narrow;
        std::memcpy(&narrow, from + p * register_lanes, sizeof narrow);
        wide.part[p] = __builtin_convertvector(narrow, i32_register);
    }
#endif
    return to_float(wide);
}
TERCET_INLINE void store(float* to, f32x16 value) {
    for (std::size_t p = 0; p < num_registers; ++p) {
        std::memcpy(to + p * register_lanes, &value.part[p], register_bytes);
    }
}

TERCET_INLINE void store(std::int8_t* to, i32x16 value) {  // each lane in [-128, 127]
#if defined(__ARM_NEON)  // which has no vectors of four bytes
    const auto low = vuzp1q_s16(reinterpret_cast<int16x8_t>(value.part[0]), reinterpret_cast<int16x8_t>(value.part[1]));
    const auto high = vuzp1q_s16(reinterpret_cast<int16x8_t>(value.part[2]), reinterpret_cast<int16x8_t>(value.part[3]));
    vst1q_s8(to, vuzp1q_s8(reinterpret_cast<int8x16_t>(low), reinterpret_cast<int8x16_t>(high)));
#else
    for (std::size_t p = 0; p < num_registers; ++p) {
        const i8_quarter_register narrow = __builtin_convertvector(value.part[p], i8_quarter_register);
        std::memcpy(to + p * register_lanes, &narrow, sizeof narrow);
    }
#endif
}

// The first `size` lanes (size < 16); the others are zero.
TERCET_INLINE f32x16 load_tail(const float* from, std::size_t size) {
    float padded[lanes] = {};
    std::memcpy(padded, from, size * sizeof(float));
    return load(padded);
}
TERCET_INLINE i32x16 load_tail(const std::int32_t* from, std::size_t size) {
    std::int32_t padded[lanes] = {};
    std::memcpy(padded, from, size * sizeof(std::int32_t));
    return load(padded);
}
TERCET_INLINE void store_tail(float* to, f32x16 value, std::size_t size) {
    float padded[lanes];
    store(padded, value);
    std::memcpy(to, padded, size * sizeof(float));
}

// Fold sixteen lanes into lane 0: lane l meets l+8, then l+4, l+2, l+1. By shuffles of registers, never through memory:
// taking the address of a sum would keep it on the stack all through the loop that builds it.
template <class Vector, class Combine>
TERCET_INLINE auto fold_lanes(const Vector& a, Combine combine) {
    const auto low_half_of_eight = [&](auto eight) TERCET_LAMBDA {
        return combine(__builtin_shufflevector(eight, eight, 0, 1, 2, 3), __builtin_shufflevector(eight, eight, 4, 5, 6, 7));
    };
    const auto four_lanes = [&](const auto& part) TERCET_LAMBDA {
        if constexpr (num_registers == 1) {
            const auto& whole = part[0];
            return low_half_of_eight(
                combine(__builtin_shufflevector(whole, whole, 0, 1, 2, 3, 4, 5, 6, 7),
                        __builtin_shufflevector(whole, whole, 8, 9, 10, 11, 12, 13, 14, 15)));
        } else if constexpr (num_registers == 2) {
            return low_half_of_eight(combine(part[0], part[1]));
        } else {
            return combine(combine(part[0], part[2]), combine(part[1], part[3]));
        }
    };
    const auto four = four_lanes(a.part);
    const auto two = combine(four, __builtin_shufflevector(four, four, 2, 3, 2, 3));
    const auto one = combine(two, __builtin_shufflevector(two, two, 1, 1, 1, 1));
    return one[0];
}

template <class Vector>
TERCET_INLINE auto sum_lanes(const Vector& a) {
    return fold_lanes(a, [](auto x, auto y) TERCET_LAMBDA { return x + y; });
}
#if defined(__AVX512F__)
// sum_lanes of 4 x 4 vectors into out[v * out_stride + r]. Each addition is one that sum_lanes makes, but the halves of
// several vectors share a register: 15 additions in place of 64.
TERCET_INLINE void store_lane_sums(const f32x16 (&sums)[4][4], float* out, std::size_t out_stride) {
    const auto eights = [](f32_register a, f32_register b) TERCET_LAMBDA {
        return __builtin_shufflevector(a, b, 0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23) +
               __builtin_shufflevector(a, b, 8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 26, 27, 28, 29, 30, 31);
    };
    const auto fours = [](f32_register ab, f32_register cd) TERCET_LAMBDA {
        return __builtin_shufflevector(ab, cd, 0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19, 24, 25, 26, 27) +
               __builtin_shufflevector(ab, cd, 4, 5, 6, 7, 12, 13, 14, 15, 20, 21, 22, 23, 28, 29, 30, 31);
    };
    // A row's four vectors have a quarter of the register each from here on.
    const auto quarters = [&](const f32x16 (&row)[4]) TERCET_LAMBDA {
        return fours(eights(row[0].part[0], row[1].part[0]), eights(row[2].part[0], row[3].part[0]));
    };
    const auto twos = [](f32_register p, f32_register q) TERCET_LAMBDA {
        return __builtin_shufflevector(p, q, 0, 1, 16, 17, 4, 5, 20, 21, 8, 9, 24, 25, 12, 13, 28, 29) +
               __builtin_shufflevector(p, q, 2, 3, 18, 19, 6, 7, 22, 23, 10, 11, 26, 27, 14, 15, 30, 31);
    };
    const auto ones = [](f32_register p, f32_register q) TERCET_LAMBDA {
        return __builtin_shufflevector(p, q, 0, 2, 16, 18, 4, 6, 20, 22, 8, 10, 24, 26, 12, 14, 28, 30) +
               __builtin_shufflevector(p, q, 1, 3, 17, 19, 5, 7, 21, 23, 9, 11, 25, 27, 13, 15, 29, 31);
    };
    const f32_register all = ones(twos(quarters(sums[0]), quarters(sums[1])), twos(quarters(sums[2]), quarters(sums[3])));
    const auto store_quarter = [&](auto quarter, float* to) TERCET_LAMBDA { std::memcpy(to, &quarter, sizeof quarter); };
    store_quarter(__builtin_shufflevector(all, all, 0, 1, 2, 3), out);
    store_quarter(__builtin_shufflevector(all, all, 4, 5, 6, 7), out + out_stride);
    store_quarter(__builtin_shufflevector(all, all, 8, 9, 10, 11), out + 2 * out_stride);
    store_quarter(__builtin_shufflevector(all, all, 12, 13, 14, 15), out + 3 * out_stride);
}
#endif

template <class Vector>
TERCET_INLINE auto greatest_lane(const Vector& a) {
    return fold_lanes(a, [](auto x, auto y) TERCET_LAMBDA { return x > y ? x : y; });
}

}  // namespace
}  // namespace tercet
