# cmake -DNM=nm "-DOBJECTS=a.o;b.o" -DSTAMP=file -P weak_symbols.cmake: fails if an object defines a weak symbol.
#
# Every object of an instruction set's folder may hold code that other processors cannot run. A weak symbol (an inline
# function, a template) is one that the linker merges with everybody else's copy, and which copy survives is its choice.
foreach(object IN LISTS OBJECTS)
  execute_process(COMMAND "${NM}" --defined-only "${object}" OUTPUT_VARIABLE symbols COMMAND_ERROR_IS_FATAL ANY)
  string(REGEX MATCHALL "[^\n]* [VvWwu] [^\n]*" weak "${symbols}")
  if(weak)
    list(JOIN weak "\n  " weak)
    message(FATAL_ERROR "${object} defines weak symbols; put the functions into an anonymous namespace:\n  ${weak}")
  endif()
endforeach()
file(WRITE "${STAMP}" "")
