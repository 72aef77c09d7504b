#include "tercet/thread_pool.hpp"

#include <exception>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace tercet {
namespace {

// A pause takes 40 to 140 cycles on current x86, so 512 of them are 10 to 25 microseconds: longer than the serial
// pieces between two parallel ones of a decoder, much shorter than a scheduler's time slice. A yield takes about a third
// of a microsecond where nobody else wants the core.
constexpr int spins_before_yield = 512;
constexpr int yields_before_sleep = 2048;

constexpr std::uint64_t piece_bits = 16, piece_mask = (std::uint64_t{1} << piece_bits) - 1;

void pause_cpu() noexcept {
#if defined(__x86_64__)
    _mm_pause();
#elif defined(__aarch64__)
    asm volatile("isb" ::: "memory");
#endif
}

// Returns once value differs from `old`: spins, then yields, then sleeps until notified.
void wait_for_change(const std::atomic<std::uint32_t>& value, std::uint32_t old) noexcept {
    for (int i = 0; i < spins_before_yield; ++i) {
        if (value.load(std::memory_order_acquire) != old) return;
        pause_cpu();
    }
    for (int i = 0; i < yields_before_sleep; ++i) {
        if (value.load(std::memory_order_acquire) != old) return;
        std::this_thread::yield();
    }
    value.wait(old, std::memory_order_acquire);
}

}  // namespace

ThreadPool::ThreadPool(int num_threads)
    : num_threads_(num_threads < 1 ? 1 : num_threads),
      unclaimed_(std::make_unique<Unclaimed[]>(static_cast<std::size_t>(num_threads_))) {
    workers_.reserve(static_cast<std::size_t>(num_threads_ - 1));
    try {
        for (int thread = 1; thread < num_threads_; ++thread) workers_.emplace_back([this, thread] { work(thread); });
    } catch (...) {  // the system refused a thread: release those that started, then tell the caller
        stop();
        throw;
    }
}

ThreadPool::~ThreadPool() { stop(); }

void ThreadPool::stop() noexcept {
    stopping_.store(true, std::memory_order_relaxed);
    run_.fetch_add(1, std::memory_order_release);
    run_.notify_all();
    for (std::thread& worker : workers_) worker.join();
}

void ThreadPool::run_task(Trampoline trampoline, void* callable, std::size_t count) {
    trampoline_ = trampoline;
    callable_ = callable;
    num_pieces_ = count;
    unfinished_.store(static_cast<std::uint32_t>(count), std::memory_order_relaxed);
    const std::uint32_t run = run_.load(std::memory_order_relaxed) + 1;
    const auto shares = static_cast<std::size_t>(num_threads_);
    for (std::size_t share = 0; share < shares; ++share) {
        const auto [begin, end] = share_of(count, share, shares);
        unclaimed_[share].word.store(static_cast<std::uint64_t>(run) << 32 | (end - begin) << piece_bits,
                                     std::memory_order_release);
    }
    // Not merely a release: notify_all() looks whether anybody sleeps, and a look that overtakes the store would leave a
    // worker that is just falling asleep out of this run.
    run_.store(run, std::memory_order_seq_cst);
    run_.notify_all();

    work_on_pieces(0);
    for (std::uint32_t left; (left = unfinished_.load(std::memory_order_acquire)) != 0;)
        wait_for_change(unfinished_, left);
}

// The own share first, then the others', until all pieces are claimed.
void ThreadPool::work_on_pieces(int thread) noexcept {
    const auto shares = static_cast<std::size_t>(num_threads_);
    for (std::size_t i = 0; i < shares; ++i) {
        const std::uint32_t finished = take_from((static_cast<std::size_t>(thread) + i) % shares, thread);
        if (finished != 0 && unfinished_.fetch_sub(finished, std::memory_order_acq_rel) == finished)
            unfinished_.notify_one();
    }
}

// Runs pieces of one share until there are none, and returns how many.
std::uint32_t ThreadPool::take_from(std::size_t share, int thread) noexcept {
    std::atomic<std::uint64_t>& word = unclaimed_[share].word;
    std::uint32_t finished = 0;
    for (std::uint64_t seen = word.load(std::memory_order_acquire);;) {
        const std::uint64_t next = seen & piece_mask, size = seen >> piece_bits & piece_mask;
        if (next >= size) return finished;
        if (!word.compare_exchange_weak(seen, seen + 1, std::memory_order_acquire)) continue;
        const std::size_t begin = share_of(num_pieces_, share, static_cast<std::size_t>(num_threads_)).begin;
        trampoline_(callable_, begin + next, thread);
        ++finished;
        seen = word.load(std::memory_order_acquire);
    }
}

void ThreadPool::work(int thread) noexcept {
    for (std::uint32_t seen = 0;;) {
        wait_for_change(run_, seen);
        // In this order: whoever has seen the count that stop() wrote also sees stopping_. The other way round a stop
        // between the two would be taken for a run, and waited after for ever.
        seen = run_.load(std::memory_order_acquire);
        if (stopping_.load(std::memory_order_relaxed)) return;
        work_on_pieces(thread);
    }
}

}  // namespace tercet
