// The default rounding mode and gradual underflow for the current thread, while an object of this class lives.
//
// Rounding and flush-to-zero are modes of a thread that any library in the process may have changed (some switch flushing
// on for speed), and threads inherit them from whoever started them. Results must not depend on that.
#pragma once

#if defined(__x86_64__)
#include <immintrin.h>
#else
#include <cfenv>
#endif

namespace tercet {

class FloatEnvironment {
  public:
    FloatEnvironment(const FloatEnvironment&) = delete;
    FloatEnvironment& operator=(const FloatEnvironment&) = delete;

#if defined(__x86_64__)
    FloatEnvironment() noexcept : saved_(_mm_getcsr()) {
        constexpr unsigned at_power_on = 0x1F80;  // exceptions masked, nearest even, denormals kept
        _mm_setcsr(at_power_on);
    }
    ~FloatEnvironment() { _mm_setcsr(saved_); }

  private:
    unsigned saved_;
#else
    FloatEnvironment() noexcept {
        std::fegetenv(&saved_);
        std::fesetenv(FE_DFL_ENV);
    }
    ~FloatEnvironment() { std::fesetenv(&saved_); }

  private:
    std::fenv_t saved_;
#endif
};

}  // namespace tercet
