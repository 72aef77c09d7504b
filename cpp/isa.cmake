# The one list of instruction sets, and of the processor features they are made of.
#
# From these two lists come, and from nowhere else:
#   - which folders of cpp/src/kernels are compiled, and the compiler flags of each (-m<feature>; on aarch64
#     -march=armv8.2-a+<feature>),
#   - the enumeration tercet::Isa and the run-time check that its features are present and usable (isa_list.hpp).
# So what a kernel was compiled for is by construction what the processor was asked for.
#
# Adding an instruction set: one line in TERCET_ISAS, one folder cpp/src/kernels/<name> with a table.cpp. A folder takes
# what it has nothing better for from an instruction set whose features are among its own (its table.cpp says which).

# feature, as the compiler calls it | CPUID leaf, subleaf, register, bit | registers the OS must save (XCR0)
set(TERCET_CPU_FEATURES
    "f16c        1 0 ecx 29 ymm"
    "avx2        7 0 ebx  5 ymm"
    "avx512f     7 0 ebx 16 zmm"
    "avx512dq    7 0 ebx 17 zmm"
    "avx512bw    7 0 ebx 30 zmm"
    "avx512vl    7 0 ebx 31 zmm"
    "avx512vnni  7 0 ecx 11 zmm"
    "avx512vbmi  7 0 ecx  1 zmm"
    "amx-tile    7 0 edx 24 tiles"
    "amx-int8    7 0 edx 25 tiles"
    # aarch64: bits of the AT_HWCAP word, in which Linux tells a process its features. The first three are Armv8.2's own,
    # which GCC wants as a whole where there are to be dot products.
    "crc         0 0 hwcap  7 none"
    "lse         0 0 hwcap  8 none"
    "rdma        0 0 hwcap 12 none"
    "dotprod     0 0 hwcap 20 none")

# name, which is also the folder's | architecture | features. The last line that a machine supports is chosen.
set(TERCET_ISAS
    "reference    any"
    "avx2         x86_64  f16c avx2"
    "avx512_vnni  x86_64  f16c avx2 avx512f avx512dq avx512bw avx512vl avx512vnni"
    "avx512_vbmi  x86_64  f16c avx2 avx512f avx512dq avx512bw avx512vl avx512vnni avx512vbmi"
    "amx_int8     x86_64  f16c avx2 avx512f avx512dq avx512bw avx512vl avx512vnni avx512vbmi amx-tile amx-int8"
    "neon         aarch64"
    "neon_dotprod aarch64  crc lse rdma dotprod")

# The architecture that is being compiled for, as the list above names it.
string(TOLOWER "${CMAKE_SYSTEM_PROCESSOR}" processor)
if(APPLE AND CMAKE_OSX_ARCHITECTURES)  # asked for by name, perhaps on a machine of the other kind
  if(CMAKE_OSX_ARCHITECTURES MATCHES ";")
    message(FATAL_ERROR "isa.cmake: one architecture at a time, not ${CMAKE_OSX_ARCHITECTURES}: each has kernels of its own")
  endif()
  string(TOLOWER "${CMAKE_OSX_ARCHITECTURES}" processor)
endif()
if(processor MATCHES "^(x86_64|amd64)$" AND CMAKE_SIZEOF_VOID_P EQUAL 8)
  set(TERCET_ARCHITECTURE x86_64)
  set(TERCET_BASELINE_FLAGS -march=x86-64 -mtune=generic)  # every x86-64 processor; never the machine at hand
elseif(processor MATCHES "^(aarch64|arm64)$" AND CMAKE_SIZEOF_VOID_P EQUAL 8)
  set(TERCET_ARCHITECTURE aarch64)
  set(TERCET_BASELINE_FLAGS -march=armv8-a)
else()
  set(TERCET_ARCHITECTURE other)
  set(TERCET_BASELINE_FLAGS)
endif()

# Sets TERCET_ISA_NAMES, and TERCET_ISA_FLAGS_<name> for each; writes <generated_folder>/tercet/isa_list.hpp.
function(tercet_read_isa_list generated_folder)
  set(feature_lines "")
  set(bit 0)
  foreach(line IN LISTS TERCET_CPU_FEATURES)
    separate_arguments(fields UNIX_COMMAND "${line}")
    list(GET fields 0 feature)
    list(GET fields 1 leaf)
    list(GET fields 2 subleaf)
    list(GET fields 3 register)
    list(GET fields 4 register_bit)
    list(GET fields 5 state)
    string(APPEND feature_lines
      "    {\"${feature}\", ${leaf}, ${subleaf}, CpuidRegister::${register}, ${register_bit}, SavedRegisters::${state}},\n")
    set(bit_of_${feature} ${bit})
    math(EXPR bit "${bit} + 1")
  endforeach()

  set(names "")
  set(requirement_lines "")
  foreach(line IN LISTS TERCET_ISAS)
    separate_arguments(features UNIX_COMMAND "${line}")
    list(POP_FRONT features name architecture)
    if(NOT architecture STREQUAL "any" AND (TERCET_REFERENCE_ONLY OR NOT architecture STREQUAL TERCET_ARCHITECTURE))
      continue()
    endif()
    set(flags ${TERCET_BASELINE_FLAGS})
    set(mask "0")
    foreach(feature IN LISTS features)
      if(NOT DEFINED bit_of_${feature})
        message(FATAL_ERROR "isa.cmake: ${name} wants ${feature}, which TERCET_CPU_FEATURES does not describe")
      endif()
      if(architecture STREQUAL "aarch64")
        string(REPLACE "armv8-a" "armv8.2-a" flags "${flags}")
        if(NOT feature MATCHES "^(crc|lse|rdma)$")  # these are in it, and compilers call them differently
          string(APPEND flags "+${feature}")
        endif()
      else()
        list(APPEND flags -m${feature})
      endif()
      string(APPEND mask " | 1u << ${bit_of_${feature}}")
    endforeach()
    list(APPEND names ${name})
    string(APPEND requirement_lines "    {Isa::${name}, \"${name}\", ${mask}},\n")
    set(TERCET_ISA_FLAGS_${name} "${flags}" PARENT_SCOPE)
  endforeach()
  set(TERCET_ISA_NAMES "${names}" PARENT_SCOPE)

  list(JOIN names ", " isa_enumerators)
  list(TRANSFORM names REPLACE "(.+)" "X(\\1)" OUTPUT_VARIABLE isa_calls)
  list(JOIN isa_calls " " isa_calls)
  list(LENGTH names num_isas)
  configure_file("${CMAKE_CURRENT_FUNCTION_LIST_DIR}/isa_list.hpp.in" "${generated_folder}/tercet/isa_list.hpp" @ONLY)
endfunction()
