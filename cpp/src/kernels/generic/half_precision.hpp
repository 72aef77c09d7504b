// binary16 and bfloat16 to float32 and back, sixteen lanes at a time.
//
// Widening is exact. Narrowing to binary16 rounds half to even, overflows to infinity, keeps subnormals, and makes every
// NaN quiet with the upper ten bits of its payload: what the F16C and NEON instructions do. Without them the same bits
// come from integer arithmetic and one float subtraction (addition) of normal numbers, so a flush-to-zero mode changes
// nothing.
#pragma once

#include "tercet/float_kernels.hpp"
#include "vector.hpp"

#if defined(__F16C__)
#include <immintrin.h>
#elif defined(__ARM_NEON)
#include <arm_neon.h>
#endif

namespace tercet {
namespace {

#if defined(__AVX512F__)
constexpr __mmask16 all_lanes = 0xFFFF;  // the unmasked intrinsics start from an undefined value and GCC 12 warns of it
#endif

TERCET_INLINE u32_register widen_integers(const std::uint16_t* from) {
    u16_half_register narrow;
    std::memcpy(&narrow, from, sizeof narrow);
    return __builtin_convertvector(narrow, u32_register);
}

// One register of binary16.
TERCET_INLINE f32_register widen_register(const std::uint16_t* from) {
#if defined(__AVX512F__)
    return reinterpret_cast<f32_register>(
        _mm512_maskz_cvtph_ps(all_lanes, _mm256_loadu_si256(reinterpret_cast<const __m256i_u*>(from))));
#elif defined(__AVX2__) && defined(__F16C__)
    return reinterpret_cast<f32_register>(_mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i_u*>(from))));
#elif defined(__ARM_NEON)
    return reinterpret_cast<f32_register>(vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(from))));
#else
    const u32_register half = widen_integers(from);
    const u32_register sign = (half & 0x8000U) << 16;
    const u32_register shifted = (half & 0x7FFFU) << 13;      // exponent and mantissa where float32 has them
    const u32_register rebias = u32_register{} + (112U << 23);  // 127 - 15
    const u32_register normal = shifted + rebias;
    // Exponent 31 becomes 255; a NaN becomes quiet.
    const u32_register quiet = shifted > (31U << 23) ? u32_register{} + (1U << 22) : u32_register{};
    const u32_register special = (normal + rebias) | quiet;
    // Exponent 0: as the mantissa of a number in [2^-14, 2^-13), less 2^-14, both exact.
    const u32_register with_one = normal + (1U << 23);
    const f32_register less_one = reinterpret_cast<f32_register>(with_one) - 0x1p-14F;
    const u32_register subnormal = reinterpret_cast<u32_register>(less_one);
    const u32_register magnitude =
        shifted >= (31U << 23) ? special : (shifted < (1U << 23) ? subnormal : normal);
    return reinterpret_cast<f32_register>(magnitude | sign);
#endif
}

TERCET_INLINE f32x16 load(const float16* from) {
    f32x16 out;
    for (std::size_t p = 0; p < num_registers; ++p) out.part[p] = widen_register(&from[p * register_lanes].bits);
    return out;
}

TERCET_INLINE f32x16 load(const bfloat16* from) {
    f32x16 out;
    for (std::size_t p = 0; p < num_registers; ++p) {
        out.part[p] = reinterpret_cast<f32_register>(widen_integers(&from[p * register_lanes].bits) << 16);
    }
    return out;
}

// The first `size` lanes (size < 16); the others are zero.
template <class Half>
TERCET_INLINE f32x16 load_tail(const Half* from, std::size_t size) {
    Half padded[lanes] = {};
    std::memcpy(padded, from, size * sizeof(Half));
    return load(padded);
}

TERCET_INLINE std::uint16_t narrow_one(float value) {
#if defined(__F16C__)
    return static_cast<std::uint16_t>(_mm_cvtsi128_si32(_mm_cvtps_ph(_mm_set_ss(value), _MM_FROUND_TO_NEAREST_INT)));
#elif defined(__ARM_NEON)
    return vget_lane_u16(vreinterpret_u16_f16(vcvt_f16_f32(vdupq_n_f32(value))), 0);
#else
    std::uint32_t bits;
    std::memcpy(&bits, &value, sizeof bits);
    const std::uint32_t sign = (bits >> 16) & 0x8000U;
    const std::uint32_t magnitude = bits & 0x7FFFFFFFU;
    std::uint32_t half;
    if (magnitude > 0x7F800000U) {  // NaN
        half = 0x7E00U | (magnitude >> 13 & 0x3FFU);
    } else if (magnitude >= 0x47800000U) {  // 2^16 and above, infinity
        half = 0x7C00U;
    } else if (magnitude < 0x38800000U) {  // below 2^-14: 0.5 + x has exactly the spacing of binary16 subnormals
        float shifted;
        std::memcpy(&shifted, &magnitude, sizeof shifted);
        shifted += 0.5F;
        std::memcpy(&half, &shifted, sizeof half);
        half -= 0x3F000000U;
    } else {  // add just under half of the last place, a little more when it is odd; a carry reaches the exponent
        half = (magnitude - (112U << 23) + 0xFFFU + (magnitude >> 13 & 1U)) >> 13;
    }
    return static_cast<std::uint16_t>(sign | half);
#endif
}

// Sixteen lanes to binary16.
TERCET_INLINE void store(float16* to, f32x16 value) {
#if defined(__AVX512F__)
    const __m256i half =
        _mm512_maskz_cvtps_ph(all_lanes, reinterpret_cast<__m512>(value.part[0]), _MM_FROUND_TO_NEAREST_INT);
    std::memcpy(to, &half, sizeof half);
#elif defined(__AVX2__) && defined(__F16C__)
    for (std::size_t p = 0; p < num_registers; ++p) {
        const __m128i half = _mm256_cvtps_ph(reinterpret_cast<__m256>(value.part[p]), _MM_FROUND_TO_NEAREST_INT);
        std::memcpy(to + p * register_lanes, &half, sizeof half);
    }
#elif defined(__ARM_NEON)
    for (std::size_t p = 0; p < num_registers; ++p)
        vst1_u16(&to[p * register_lanes].bits,
                 vreinterpret_u16_f16(vcvt_f16_f32(reinterpret_cast<float32x4_t>(value.part[p]))));
#else
    float wide[lanes];
    store(wide, value);
    for (std::size_t l = 0; l < lanes; ++l) to[l].bits = narrow_one(wide[l]);
#endif
}

}  // namespace
}  // namespace tercet
