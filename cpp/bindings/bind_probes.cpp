// Measurements of this machine with the kernels' own instructions, on the threads that a model would use.
#include <nanobind/nanobind.h>
#include <nanobind/stl/map.h>
#include <nanobind/stl/vector.h>

#include <chrono>
#include <map>
#include <random>
#include <vector>

#include "bindings.hpp"
#include "ternary_product.hpp"

namespace tercet::bindings {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

template <class Step>
double shortest_of(int repeats, Step&& step) {
    double shortest = 0;
    for (int repeat = 0; repeat < repeats; ++repeat) {
        const Clock::time_point start = Clock::now();
        step();
        const double seconds = seconds_since(start);
        if (repeat == 0 || seconds < shortest) shortest = seconds;
    }
    return shortest;
}

void check_repeats(const std::string& operation, int repeats) {
    if (repeats < 1) reject(operation, "repeats", "at least 1", std::to_string(repeats));
}

// Bytes a second of each reader, the best of `repeats` passes over a buffer that all threads share.
std::map<std::string, double> read_bandwidth(std::size_t buffer_bytes, int threads, int repeats, const IsaName& isa) {
    constexpr std::size_t piece = 1 << 16;  // each thread's part is a multiple of this
    check_threads("read_bandwidth", threads);
    check_repeats("read_bandwidth", repeats);
    if (buffer_bytes < piece * static_cast<std::size_t>(threads))
        reject("read_bandwidth", "buffer_bytes", "at least 65536 for each thread", std::to_string(buffer_bytes));
    const ProbeKernels& probes = table_of(isa).probes;
    const std::map<std::string, decltype(ProbeKernels::read_plain)> readers = {
        {"plain", probes.read_plain}, {"prefetched", probes.read_prefetched}, {"streams", probes.read_streams}};

    const nb::gil_scoped_release release;
    const std::size_t pieces = buffer_bytes / piece;
    AlignedBuffer<std::uint8_t> buffer(pieces * piece);  // zero-filled, so every page is real memory
    ThreadPool pool(threads);
    std::map<std::string, double> rates;
    for (const auto& [name, reader] : readers) {
        const double seconds = shortest_of(repeats, [&, read = reader] {
            pool.run([&](int index, int count) {
                const Share share = share_of(pieces, index, count);
                const std::uint64_t parity =
                    read(buffer.data() + share.begin * piece, (share.end - share.begin) * piece);
                asm volatile("" : : "r"(parity));
            });
        });
        rates[name] = static_cast<double>(pieces * piece) / seconds;
    }
    return rates;
}

// What a probe counts in a second, all threads together: the best of as many bursts as fit into the given time.
double peak_of(const std::string& operation, decltype(ProbeKernels::int8_dot_products) probe, int threads,
               double seconds) {
    check_threads(operation, threads);
    if (!(seconds > 0 && seconds <= 60))
        reject(operation, "seconds", "more than 0, at most 60", std::to_string(seconds));

    const nb::gil_scoped_release release;
    constexpr std::size_t burst = 100'000;
    ThreadPool pool(threads);
    double best = 0;
    for (const Clock::time_point begin = Clock::now(); best == 0 || seconds_since(begin) < seconds;) {
        std::uint64_t per_thread = 0;
        const Clock::time_point start = Clock::now();
        pool.run([&](int index, int) {
            const std::uint64_t done = probe(burst);
            if (index == 0) per_thread = done;
        });
        best = std::max(best, static_cast<double>(per_thread) * threads / seconds_since(start));
    }
    return best;
}

// Multiply-adds a second of int8 dot products in registers.
double int8_peak(int threads, double seconds, const IsaName& isa) {
    return peak_of("int8_peak", table_of(isa).probes.int8_dot_products, threads, seconds);
}

// Bytes a second that are looked up in tables in registers.
double lookup_peak(int threads, double seconds, const IsaName& isa) {
    return peak_of("lookup_peak", table_of(isa).probes.byte_lookups, threads, seconds);
}

// Cycles a second of one core: a chain of additions, each of which waits a cycle for the one before.
double clock_rate() {
    const nb::gil_scoped_release release;
    constexpr int additions = 4'000'000;
    std::uint64_t sum = 0, addend = 1;
    const double seconds = shortest_of(5, [&] {
        for (int i = 0; i < additions / 8; ++i)
            for (int j = 0; j < 8; ++j) {
                sum += addend;
                asm volatile("" : "+r"(sum), "+r"(addend));
            }
    });
    return additions / seconds;
}

// Seconds of each of `repeats` products of a random matrix with random activations.
std::vector<double> time_ternary_matmul(const std::string& packing, std::int64_t rows, std::int64_t depth, std::int64_t tokens,
                           int threads, int repeats, const IsaName& isa) {
    const PackedMatrix matrix = packed_matrix("time_ternary_matmul", packing, rows, depth);
    const std::size_t num_tokens = checked_size("time_ternary_matmul", "tokens", tokens, 1 << 20);
    check_threads("time_ternary_matmul", threads);
    check_repeats("time_ternary_matmul", repeats);
    const TernaryKernels& kernels = table_of(isa).ternary;

    const nb::gil_scoped_release release;
    std::minstd_rand random(1);
    const auto fill = [&random](auto& values) {
        for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<std::uint8_t>(random());
    };
    AlignedBuffer<std::uint8_t> packed(matrix.num_bytes());
    AlignedBuffer<std::int8_t> codes(matrix.depth);
    fill(packed);
    TernaryProduct product(matrix, num_tokens);
    for (std::size_t token = 0; token < num_tokens; ++token) {
        fill(codes);
        product.set_activations(token, codes.data());
    }
    ThreadPool pool(threads);
    std::vector<double> seconds(static_cast<std::size_t>(repeats));
    product.run(kernels, packed.data(), pool);  // warm-up
    for (double& one : seconds) one = shortest_of(1, [&] { product.run(kernels, packed.data(), pool); });
    return seconds;
}

}  // namespace

void bind_probes(nb::module_& module) {
    module.def("read_bandwidth", &read_bandwidth, nb::arg("buffer_bytes"), nb::arg("threads"), nb::arg("repeats"),
               nb::arg("isa") = nb::none());
    module.def("int8_peak", &int8_peak, nb::arg("threads"), nb::arg("seconds"), nb::arg("isa") = nb::none());
    module.def("lookup_peak", &lookup_peak, nb::arg("threads"), nb::arg("seconds"), nb::arg("isa") = nb::none());
    module.def("clock_rate", &clock_rate);
    module.def("time_ternary_matmul", &time_ternary_matmul, nb::arg("packing"), nb::arg("rows"), nb::arg("depth"),
               nb::arg("tokens"), nb::arg("threads"), nb::arg("repeats"), nb::arg("isa") = nb::none());
}

}  // namespace tercet::bindings
