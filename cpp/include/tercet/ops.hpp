// The operations of a decoder on whole batches: kernels plus the splitting of work over threads.
//
// All of them take a Team (threads and the kernels of one instruction set) and run in a FloatEnvironment; none allocates
// once its scratch memory has grown to the largest batch seen. Work is split by rows of an output or by (token, head), never inside a sum,
// so a result depends neither on the number of threads nor on which other tokens share the batch.
#pragma once

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <span>
#include <variant>
#include <vector>

#include "tercet/aligned_buffer.hpp"
#include "tercet/float_environment.hpp"
#include "tercet/head_kernels.hpp"
#include "tercet/kernel_table.hpp"
#include "tercet/tensor_view.hpp"
#include "tercet/thread_pool.hpp"

namespace tercet {

// A row-major float matrix in somebody else's memory.
struct FloatMatrix {
    std::variant<const float*, const float16*, const bfloat16*> data;
    std::size_t rows = 0, depth = 0;
};

enum class Packing { two_bit, five_per_byte };

// A packed ternary matrix in somebody else's memory. Layouts: tercet/ternary_kernels.hpp.
struct TernaryMatrix {
    Packing packing = Packing::two_bit;
    const std::uint8_t* packed = nullptr;
    std::size_t rows = 0, depth = 0;
    const float* scales = nullptr;
    std::size_t scale_step = 0;  // 0: one scale for the matrix, 1: one per row
    std::size_t group_size = 0;  // not 0: scales[row][group], one for so many columns, a multiple of 16 (the last may be short)

    bool grouped() const noexcept { return group_size != 0; }
    std::size_t groups() const noexcept { return grouped() ? (depth + group_size - 1) / group_size : 1; }
    float scale(std::size_t row, std::size_t column) const noexcept {
        return grouped() ? scales[row * groups() + column / group_size] : scales[row * scale_step];
    }
    std::size_t tile_rows() const noexcept;
    std::size_t row_tiles() const noexcept { return (rows + tile_rows() - 1) / tile_rows(); }
    std::size_t row_tile_bytes() const noexcept;
};

// Rows of 8-bit or 6-bit whole numbers with a scale each, in two planes, in somebody else's memory: an embedding or an
// output head. Layout: tercet/head_kernels.hpp.
struct PlaneMatrix {
    int bits = 8;  // or 6
    const std::uint8_t* high = nullptr;
    const std::uint8_t* low = nullptr;
    std::size_t rows = 0, depth = 0;
    const float* scales = nullptr;  // [rows]
    double mean_square_scale = 0.0;
    float largest_scale = 0.0F;

    std::size_t chunks() const noexcept { return (depth + plane_chunk_columns - 1) / plane_chunk_columns; }
    int bias() const noexcept { return 1 << (bits - 1); }
    int low_bits() const noexcept { return bits - 4; }
    std::size_t low_chunk_bytes() const noexcept { return bits == 8 ? four_bit_chunk_bytes : two_bit_chunk_bytes; }

    // Fills in what the two stages of a head want to know of the scales.
    void measure_scales() noexcept {
        for (std::size_t row = 0; row < rows; ++row)
            mean_square_scale += static_cast<double>(scales[row]) * static_cast<double>(scales[row]);
        mean_square_scale /= static_cast<double>(rows);
        largest_scale = *std::max_element(scales, scales + rows);
    }
};

// A matrix of any kind: an embedding or an output head, which some models store as a ternary matrix too, or a matrix
// of a layer that a model keeps as floats.
using EmbeddingMatrix = std::variant<FloatMatrix, TernaryMatrix, PlaneMatrix>;

// What the logits of a vector are for, where the output head is a PlaneMatrix. `exact`: each from both planes. Otherwise in
// two stages, from the high plane alone and then again from both for the rows that matter (ops/head.cpp says which):
// `drawing`: a token is drawn from their distribution; `best`: only the largest counts. One for each vector, or none at all
// when all are exact.
enum class LogitUse : std::uint8_t { exact, drawing, best };
inline constexpr std::uint8_t num_logit_uses = 3;

constexpr std::size_t round_up(std::size_t size, std::size_t multiple) noexcept {
    return (size + multiple - 1) / multiple * multiple;
}

// Memory that grows by doubling, so that a context that grows by a token a step does not move it every step.
template <class T>
T* grown(AlignedBuffer<T>& buffer, std::size_t size) {
    if (size > buffer.size()) buffer.reserve(size > 2 * buffer.size() ? size : 2 * buffer.size());
    return buffer.data();
}

// What one thread needs for itself.
struct ThreadScratch {
    AlignedBuffer<std::int32_t> sums;     // integer products of a few tokens and rows
    AlignedBuffer<std::int8_t> codes;     // unpacked rows
    AlignedBuffer<std::uint8_t> packed;   // the same, packed again as two_bit
    AlignedBuffer<float> lane_scales;     // the scales of a few row tiles, as kernels read them
    AlignedBuffer<float> products;        // float products of a few tokens and rows
    AlignedBuffer<float> scores;          // attention scores of a group of heads
    AlignedBuffer<std::uint8_t> prepared; // activations for five_per_byte, where every thread makes its own
    std::uint64_t prepared_for = 0;       // of which call of multiply they are

    std::size_t num_bytes() const noexcept {
        return sums.size() * sizeof(std::int32_t) + codes.size() + packed.size() + prepared.size() +
               (lane_scales.size() + products.size() + scores.size()) * sizeof(float);
    }
};

// What all threads read when the head is a PlaneMatrix: each vector as 16-bit whole numbers, 256 coarse + fine.
struct PlaneInput {
    struct Vector {
        std::size_t index = 0;  // among those that were given; the ones in two stages come first here
        LogitUse use = LogitUse::exact;
        double sum = 0.0;   // of the whole numbers
        double norm = 0.0;  // their Euclidean norm
        float scale = 0.0F;
    };
    std::size_t stride = 0;
    AlignedBuffer<std::int8_t> codes;         // [vectors][coarse, fine][stride]
    AlignedBuffer<std::int32_t> first_sums;   // [vectors in two stages][coarse, fine][rows]: products with the high plane
    AlignedBuffer<float> maxima;              // of blocks of the logits of one vector
    std::vector<Vector> vectors;
};

// How long one fast core needs for a piece of work, in nanoseconds, roughly. It only decides whether waking other threads
// pays: small models spend most steps in pieces that are over before a sleeping thread has been scheduled, and on a busy
// machine that takes longer still.
namespace cost {
inline constexpr double worth_sharing = 6'000;   // a task that threads share costs about one
inline constexpr double piece = 12'000;          // small enough that threads finish together, large enough to stream
inline constexpr double most_pieces_each = 64;
inline constexpr double ternary_product = 0.01;  // of one weight and one int8 activation
inline constexpr double ternary_by_float = 0.04; // of one weight and one float
inline constexpr double float_product = 0.06;    // of one f32, f16 or bf16 weight and one float
inline constexpr double plane_product = 0.02;    // of one weight in two planes and one 16-bit activation
inline constexpr double prepared_piece = 400;    // of activations, for kernels that want them prepared
inline constexpr double value = 0.5;             // of a row that is normalized, gated or quantized
inline constexpr double angle = 60;              // its sine and cosine
}  // namespace cost

// Threads, kernels and scratch memory: who does the work.
class Team {
  public:
    Team(const KernelTable& kernels, int num_threads)
        : kernels_(kernels), pool_(num_threads), scratch_(static_cast<std::size_t>(pool_.num_threads())) {}

    const KernelTable& kernels() const noexcept { return kernels_; }
    int num_threads() const noexcept { return pool_.num_threads(); }
    std::span<ThreadScratch> scratch() noexcept { return scratch_; }
    PlaneInput& plane_input() noexcept { return plane_input_; }
    std::uint64_t next_call() noexcept { return ++num_calls_; }
    std::size_t scratch_bytes() const noexcept {
        std::size_t bytes = 0;
        for (const ThreadScratch& scratch : scratch_) bytes += scratch.num_bytes();
        return bytes + plane_input_.codes.size() + plane_input_.first_sums.size() * sizeof(std::int32_t) +
               plane_input_.maxima.size() * sizeof(float);
    }

    // Calls part(share, scratch) for every part of some work; share(count) is that part of `count` things. Work that is not
    // worth sharing runs where we are, in one part. Otherwise every thread has several: the first is half of its share, so
    // that it streams through memory for long; each other is half of what is left, so that whoever is done early finds
    // something small to take.
    template <class Part>
    void together(double nanoseconds, Part part) {
        const auto threads = static_cast<std::size_t>(num_threads());
        const bool alone = threads == 1 || nanoseconds < cost::worth_sharing;
        const double pieces_each = nanoseconds / (cost::piece * static_cast<double>(threads));
        const auto smallest = static_cast<std::size_t>(std::clamp(pieces_each, 1.0, cost::most_pieces_each));
        const auto parts_each = static_cast<std::size_t>(std::bit_width(smallest));
        const std::size_t units_each = std::size_t{1} << (parts_each - 1);
        pool_.run_pieces(alone ? 1 : threads * parts_each, [&](std::size_t index, int thread) noexcept {
            const FloatEnvironment environment;
            const std::size_t first = index / parts_each * units_each, nth = index % parts_each;
            const std::size_t begin = first + units_each - (units_each >> nth);
            const std::size_t end = nth + 1 == parts_each ? first + units_each : first + units_each - (units_each >> (nth + 1));
            const std::size_t units = threads * units_each;
            part([=](std::size_t count) { return alone ? Share{0, count} : Share{count * begin / units, count * end / units}; },
                 scratch_[static_cast<std::size_t>(thread)]);
        });
    }

    // Calls piece(i) for each i < count, split over the threads.
    template <class Piece>
    void for_each(std::size_t count, double nanoseconds_each, Piece piece) {
        const auto run_pieces = [&](auto share, ThreadScratch&) {
            for (auto [i, end] = share(count); i < end; ++i) piece(i);
        };
        together(count == 1 ? 0.0 : static_cast<double>(count) * nanoseconds_each, run_pieces);
    }

  private:
    const KernelTable& kernels_;
    ThreadPool pool_;
    std::vector<ThreadScratch> scratch_;
    PlaneInput plane_input_;
    std::uint64_t num_calls_ = 0;
};

// How an input is rounded (src/tercet/quantization/activations.py): by its largest value to [-127, 127]; by its mean to
// [-8, 7]; or as int8 with all but the larger half set to zero before.
enum class Rounding : std::uint8_t { int8, int4, int8_top_half };

// The input of a linear layer: float rows, and (when activations are quantized) their int8 codes.
class LinearInput {
  public:
    // Room for `tokens` rows of `depth`; the contents are undefined until filled.
    void prepare(std::size_t tokens, std::size_t depth, bool quantized);
    // Quantizes row `token`, whose floats stay (no effect when not quantized). For int8_top_half make room before.
    void quantize(const FloatKernels& kernels, std::size_t token, Rounding rounding = Rounding::int8) noexcept;
    void make_room_for_halves() { grown(kept_, tokens_ * depth_); }

    std::size_t tokens() const noexcept { return tokens_; }
    std::size_t depth() const noexcept { return depth_; }
    bool quantized() const noexcept { return quantized_; }

    // Activations as the kernels of five_per_byte want them, once for all matrices that share the input: how many pieces
    // there are to make (0: they want none), and the making of some of them, by any thread. Before the products, all must
    // have been made, in prepared() for all threads or somewhere else for one.
    std::size_t begin_pieces(const TernaryKernels& kernels);
    void prepare_pieces(const TernaryKernels& kernels, Share pieces, std::uint8_t* prepared) const noexcept;
    std::uint8_t* prepared() { return grown(prepared_, prepared_bytes()); }
    std::size_t prepared_bytes() const noexcept { return tokens_ * prepared_stride_; }
    std::size_t prepared_stride() const noexcept { return prepared_stride_; }

    float* row(std::size_t token) noexcept { return values_.data() + token * depth_; }
    const float* values() const noexcept { return values_.data(); }
    const std::int8_t* codes() const noexcept { return codes_.data(); }
    std::size_t code_stride() const noexcept { return code_stride_; }
    const std::int32_t* sums() const noexcept { return sums_.data(); }
    const float* scales() const noexcept { return scales_.data(); }
    std::size_t scratch_bytes() const noexcept;

  private:
    std::size_t tokens_ = 0, depth_ = 0, code_stride_ = 0, prepared_stride_ = 0;
    bool quantized_ = false;
    AlignedBuffer<float> values_;
    AlignedBuffer<float> kept_;  // by int8_top_half
    AlignedBuffer<std::int8_t> codes_;
    AlignedBuffer<std::int32_t> sums_;
    AlignedBuffer<float> scales_;
    AlignedBuffer<std::uint8_t> prepared_;
};

// One matrix of a linear layer and where its product goes.
struct Product {
    const TernaryMatrix& matrix;
    float* out;              // [tokens][matrix.rows]
    bool accumulate = false;  // out += product instead of out = product
};

// Multiplies one input with several matrices of its depth: y = (codes_x . codes_w) * (scale_x * scale_w), exact integers
// until the last step; or, for an input that is not quantized, y = (x . codes_w) * scale_w in the order that
// TernaryKernels::multiply_two_bit_floats states. With a scale for each group of columns, y is the sum over the groups,
// in their order, beginning at zero.
void multiply(Team& team, LinearInput& input, std::span<const Product> products);

// Rows of an embedding as floats: out[t] = embedding[ids[t]].
void embed(Team& team, const EmbeddingMatrix& embedding, std::span<const std::int32_t> ids, float* out);

// out[v][r] = dot(matrix[r], vectors[v]): the output head. A ternary one multiplies floats, as multiply does; planes
// multiply 16-bit activations.
void project(Team& team, const EmbeddingMatrix& matrix, const float* vectors, std::size_t num_vectors, float* out,
             std::span<const LogitUse> uses = {});
void project_planes(Team& team, const PlaneMatrix& matrix, const float* vectors, std::size_t num_vectors, float* out,
                    std::span<const LogitUse> uses);

// The basis in which the inputs of some models' matrices are: every block of block_size values turned by
// R = (1 / sqrt(block_size)) H S, with H[i][j] = (-1)^popcount(i & j) and S a diagonal of signs.
struct BasisRotation {
    std::size_t block_size = 0;  // a power of two; 0: no rotation
    std::vector<float> signs;    // one for each value of a row, -1 or 1; empty: all 1

    bool empty() const noexcept { return block_size == 0; }
};

// row = R row: into the basis, before a product. `size`, the width of the row, is a multiple of the block size.
void rotate_in(const FloatKernels& kernels, const BasisRotation& rotation, float* row, std::size_t size) noexcept;
// row = R^T row: back from it, after an embedding has been looked up.
void rotate_back(const FloatKernels& kernels, const BasisRotation& rotation, float* row, std::size_t size) noexcept;

// Cosines and sines of the angles of one position: angle[i] = float(position) * inverse_frequencies[i] in float32, its
// cosine and sine rounded to float32 (the convention of Hugging Face's implementations), then times factor.
void rotation(std::size_t position, std::span<const float> inverse_frequencies, float factor, float* cosines,
              float* sines) noexcept;

}  // namespace tercet
