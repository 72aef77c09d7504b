# find_package(tercet) gives tercet::tercet (shared) and tercet::tercet_static.
include(CMakeFindDependencyMacro)
find_dependency(Threads)
include("${CMAKE_CURRENT_LIST_DIR}/tercetTargets.cmake")
