// What the processor has (CPUID), what the operating system saves (XCR0), and which instruction set follows from both.
#include "tercet/isa.hpp"

#include <cstdlib>
#include <cstring>
#include <fstream>

#if defined(__x86_64__)
#include <cpuid.h>
#if defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif
#elif defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>
#elif defined(__aarch64__) && defined(__APPLE__)
#include <sys/sysctl.h>
#endif

namespace tercet {
namespace {

#if defined(__x86_64__)

// XGETBV as an instruction byte by byte: its intrinsic would need -mxsave for the whole file.
std::uint64_t saved_register_bits() noexcept {
    std::uint32_t eax = 0, ebx = 0, ecx = 0, edx = 0;
    __get_cpuid(1, &eax, &ebx, &ecx, &edx);
    if (!(ecx >> 27 & 1)) return 0;  // OSXSAVE: the operating system has not enabled XGETBV
    asm volatile("xgetbv" : "=a"(eax), "=d"(edx) : "c"(0));
    return static_cast<std::uint64_t>(edx) << 32 | eax;
}

// The registers of matrix tiles are so large that Linux gives them only to programs that ask.
bool tiles_are_permitted() noexcept {
#if defined(__linux__)
    constexpr long request_permission = 0x1023, tile_data = 18;  // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA
    return syscall(SYS_arch_prctl, request_permission, tile_data) == 0;
#else
    return false;
#endif
}

bool is_usable(const CpuFeature& feature) noexcept {
    std::uint32_t registers[4] = {};
    if (feature.reg == CpuidRegister::hwcap) return false;
    if (!__get_cpuid_count(feature.leaf, feature.subleaf, &registers[0], &registers[1], &registers[2], &registers[3]))
        return false;
    // none; XMM + YMM; and opmask + both halves of ZMM; and tile configuration + tile data
    constexpr std::uint64_t needed_bits[] = {0, 0x06, 0xE6, 0x600E6};
    const std::uint64_t needed = needed_bits[static_cast<int>(feature.saved)];
    return (registers[static_cast<int>(feature.reg)] >> feature.bit & 1) && (saved_register_bits() & needed) == needed &&
           (feature.saved != SavedRegisters::tiles || tiles_are_permitted());
}

#elif defined(__aarch64__) && defined(__linux__)

bool is_usable(const CpuFeature& feature) noexcept {
    return feature.reg == CpuidRegister::hwcap && (getauxval(AT_HWCAP) >> feature.bit & 1);
}

#elif defined(__aarch64__) && defined(__APPLE__)

// Every processor of Apple's that has dot products has all the features of the list.
bool is_usable(const CpuFeature& feature) noexcept {
    int present = 0;
    std::size_t size = sizeof present;
    return feature.reg == CpuidRegister::hwcap &&
           sysctlbyname("hw.optional.arm.FEAT_DotProd", &present, &size, nullptr, 0) == 0 && present != 0;
}

#else

bool is_usable(const CpuFeature&) noexcept { return false; }

#endif

std::uint32_t find_usable_features() noexcept {
    std::uint32_t usable = 0, bit = 1;
    for (const CpuFeature& feature : cpu_feature_list) {
        if (is_usable(feature)) usable |= bit;
        bit <<= 1;
    }
    return usable;
}

std::uint32_t usable_features() noexcept {
    static const std::uint32_t usable = find_usable_features();
    return usable;
}

bool is_available(const IsaRequirement& requirement) noexcept {
    return (requirement.features & ~usable_features()) == 0;
}

std::string names_of_features(std::uint32_t features) {
    std::string names;
    for (const CpuFeature& feature : cpu_feature_list) {
        if (features & 1) names += (names.empty() ? "" : ", ") + std::string(feature.name);
        features >>= 1;
    }
    return names;
}

std::string names_of_isas(bool available_only) {
    std::string names;
    for (const IsaRequirement& requirement : isa_list)
        if (!available_only || is_available(requirement))
            names += (names.empty() ? "" : ", ") + std::string(requirement.name);
    return names;
}

}  // namespace

const char* isa_name(Isa isa) noexcept { return isa_list[static_cast<int>(isa)].name; }

std::vector<std::string> usable_cpu_features() {
    std::vector<std::string> names;
    std::uint32_t usable = usable_features();
    for (const CpuFeature& feature : cpu_feature_list) {
        if (usable & 1) names.emplace_back(feature.name);
        usable >>= 1;
    }
    return names;
}

std::string cpu_name() {
#if defined(__x86_64__)
    std::uint32_t brand[12] = {};
    if (static_cast<std::uint32_t>(__get_cpuid_max(0x80000000, nullptr)) >= 0x80000004) {
        for (std::uint32_t part = 0; part < 3; ++part)
            __get_cpuid(0x80000002 + part, &brand[4 * part], &brand[4 * part + 1], &brand[4 * part + 2],
                        &brand[4 * part + 3]);
        char text[sizeof brand + 1] = {};
        std::memcpy(text, brand, sizeof brand);
        const std::string name(text);
        const std::size_t first = name.find_first_not_of(' '), last = name.find_last_not_of(' ');
        if (first != std::string::npos) return name.substr(first, last - first + 1);
    }
#elif defined(__linux__)
    std::ifstream information("/proc/cpuinfo");
    for (std::string line; std::getline(information, line);)
        if (line.rfind("model name", 0) == 0 && line.find(": ") != std::string::npos)
            return line.substr(line.find(": ") + 2);
#endif
    return "unknown processor";
}

std::vector<Isa> available_isas() {
    std::vector<Isa> isas;
    for (const IsaRequirement& requirement : isa_list)
        if (is_available(requirement)) isas.push_back(requirement.isa);
    return isas;
}

IsaChoice choose_isa(std::string_view requested) {
    std::string source = "the caller asked for it";
    if (requested.empty()) {
        const char* forced = std::getenv("TERCET_ISA");
        if (forced == nullptr || *forced == '\0')
            return {available_isas().back(), "the best that this processor and operating system support"};
        requested = forced;
        source = "TERCET_ISA asks for it";
    }

    for (const IsaRequirement& requirement : isa_list) {
        if (requested != requirement.name) continue;
        if (is_available(requirement)) return {requirement.isa, source};
        throw IsaError("instruction set '" + std::string(requested) + "' (" + source + ") needs " +
                       names_of_features(requirement.features & ~usable_features()) + ", which " + cpu_name() +
                       " or its operating system lacks; available here: " + names_of_isas(true));
    }
    throw IsaError("no instruction set is called '" + std::string(requested) + "' (" + source + "); this build has " +
                   names_of_isas(false) + "; available here: " + names_of_isas(true));
}

}  // namespace tercet
