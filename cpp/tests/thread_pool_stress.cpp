// Runs a ThreadPool hard and says "ok", or what went wrong. tests/kernels compiles and runs it, also with
// -fsanitize=thread.
#include "tercet/thread_pool.hpp"

#include <chrono>
#include <cstdio>
#include <cstdlib>

namespace {

void require(bool condition, const char* what) {
    if (condition) return;
    std::printf("%s\n", what);
    std::exit(1);
}

// Every run calls the task once for each share, and what it wrote is visible to the caller and to the next run, whoever
// executes that share then.
void test_runs(int num_threads, int runs) {
    tercet::ThreadPool pool(num_threads);
    std::vector<long> counts(static_cast<std::size_t>(num_threads) * 16);  // plain memory, apart by cache lines
    for (int run = 0; run < runs; ++run) {
        pool.run([&](int share, int count) {
            require(count == num_threads, "a task was told another number of shares");
            require(counts[static_cast<std::size_t>(share) * 16] == run, "a share was left out, or ran twice");
            counts[static_cast<std::size_t>(share) * 16] += 1;
        });
    }
    for (int share = 0; share < num_threads; ++share)
        require(counts[static_cast<std::size_t>(share) * 16] == runs, "the caller does not see what a share wrote");
}

// Shares of very different length, so that runs end while others still hold, or have just lost, a claim.
void test_uneven_shares(int num_threads, int runs) {
    tercet::ThreadPool pool(num_threads);
    std::vector<long> sums(static_cast<std::size_t>(num_threads) * 16);
    long expected = 0;
    for (int run = 0; run < runs; ++run) {
        const int length = run % 7 * 50;
        pool.run([&](int share, int count) {
            volatile long step = 1;
            if (share == run % count)
                for (int i = 0; i < length; ++i) sums[static_cast<std::size_t>(share) * 16] += step;
        });
        expected += length;
        long total = 0;
        for (int share = 0; share < num_threads; ++share) total += sums[static_cast<std::size_t>(share) * 16];
        require(total == expected, "a run returned before its longest share");
    }
}

// Workers sleep after a while without work; they must wake up.
void test_sleep(int num_threads) {
    tercet::ThreadPool pool(num_threads);
    for (int run = 0; run < 5; ++run) {
        std::this_thread::sleep_for(std::chrono::milliseconds(5));
        std::atomic<int> calls{0};
        pool.run([&](int, int) { calls.fetch_add(1); });
        require(calls.load() == num_threads, "a sleeping thread did not wake up");
    }
}

// Two callers at once take turns.
void test_callers(int num_threads, int runs) {
    tercet::ThreadPool pool(num_threads);
    long total = 0;  // plain memory: only turns keep it right
    const auto call = [&] {
        for (int run = 0; run < runs; ++run)
            pool.run([&](int share, int) {
                if (share == 0) total += 1;
            });
    };
    std::thread other(call);
    call();
    other.join();
    require(total == 2L * runs, "two callers ran at the same time");
}

// A pool may end at once after its last run, while workers are only just waking up for it.
void test_stop(int num_threads, int pools) {
    for (int i = 0; i < pools; ++i) {
        tercet::ThreadPool pool(num_threads);
        std::atomic<int> calls{0};
        pool.run([&](int, int) { calls.fetch_add(1, std::memory_order_relaxed); });
        require(calls.load() == num_threads, "a share was left out");
    }
}

void test_shares() {
    for (const std::size_t count : std::initializer_list<std::size_t>{0, 1, 7, 64, 1000}) {
        for (std::size_t num_threads = 1; num_threads <= 9; ++num_threads) {
            std::size_t next = 0;
            for (std::size_t index = 0; index < num_threads; ++index) {
                const tercet::Share share = tercet::share_of(count, index, num_threads);
                require(share.begin == next && share.end >= share.begin, "shares are not contiguous");
                require(share.end - share.begin <= count / num_threads + 1, "a share is too big");
                next = share.end;
            }
            require(next == count, "shares do not cover everything");
        }
    }
}

}  // namespace

int main() {
    test_shares();
    for (const int num_threads : {1, 2, 3, 8}) {  // 8 is more than small machines have: waiting threads must give way
        test_runs(num_threads, 3000);
        test_sleep(num_threads);
        test_uneven_shares(num_threads, 3000);
        test_callers(num_threads, 1000);
    }
    test_stop(3, 3000);
    for (int i = 0; i < 100; ++i) tercet::ThreadPool unused(3);
    std::printf("ok\n");
}
