// Where the time of a decoder's steps goes: what the caller's thread spent in each operation since the decoder was made.
//
// It is always on. An operation costs one reading of the processor's time-stamp counter, some eight nanoseconds, and a
// step has a dozen operations a layer. Time that other threads need longer is in the operation that waits for them.
#pragma once

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>

#if defined(__x86_64__)
#include <x86intrin.h>
#endif

namespace tercet {

enum class Operation {
    preparation,     // of a step: checks, positions, rotary angles
    embedding,
    attention_norm,  // and rounding to int8, as for the other norms
    query_key_value,
    rotation,        // and writing keys and values
    attention,
    attention_sub_norm,
    attention_output,
    ffn_norm,
    gate_up,
    ffn_sub_norm,    // and the gate
    down,
    final_norm,
    output_head,
};
inline constexpr const char* operation_names[] = {
    "preparation",        "embedding",        "attention_norm", "query_key_value", "rotation",     "attention",
    "attention_sub_norm", "attention_output", "ffn_norm",       "gate_up",         "ffn_sub_norm", "down",
    "final_norm",         "output_head"};
inline constexpr std::size_t num_operations = sizeof operation_names / sizeof operation_names[0];
static_assert(static_cast<std::size_t>(Operation::output_head) + 1 == num_operations);

class Profile {
  public:
    void begin_step() noexcept {
        last_ = ticks();
        ++steps_;
    }
    // What has been done since the last call was this operation.
    void add(Operation operation) noexcept {
        const std::uint64_t now = ticks();
        ticks_[static_cast<std::size_t>(operation)] += now - last_;
        last_ = now;
    }

    std::size_t steps() const noexcept { return steps_; }
    double seconds(std::size_t operation) const noexcept {
        const double elapsed = std::chrono::duration<double>(Clock::now() - start_time_).count();
        const std::uint64_t elapsed_ticks = ticks() - start_ticks_;
        return elapsed_ticks == 0 ? 0.0 : static_cast<double>(ticks_[operation]) * elapsed / static_cast<double>(elapsed_ticks);
    }

  private:
    using Clock = std::chrono::steady_clock;

    static std::uint64_t ticks() noexcept {
#if defined(__x86_64__)
        return __rdtsc();
#elif defined(__aarch64__)
        std::uint64_t count;
        asm volatile("mrs %0, cntvct_el0" : "=r"(count));
        return count;
#else
        return static_cast<std::uint64_t>(Clock::now().time_since_epoch().count());
#endif
    }

    Clock::time_point start_time_ = Clock::now();
    std::uint64_t start_ticks_ = ticks();
    std::uint64_t last_ = start_ticks_;
    std::size_t steps_ = 0;
    std::array<std::uint64_t, num_operations> ticks_{};
};

}  // namespace tercet
