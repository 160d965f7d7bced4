# One place for language level, warnings and sanitizers. MOIRA_SANITIZE: "", "address,undefined" or "thread".
set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_C_STANDARD 11)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
set(CMAKE_CXX_VISIBILITY_PRESET hidden)
set(CMAKE_VISIBILITY_INLINES_HIDDEN ON)

if(NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE Release CACHE STRING "" FORCE)
endif()

# A compiler cache is used when there is one; nothing depends on it.
find_program(MOIRA_CCACHE ccache)
if(MOIRA_CCACHE)
  foreach(language C CXX)
    if(NOT CMAKE_${language}_COMPILER_LAUNCHER)
      set(CMAKE_${language}_COMPILER_LAUNCHER ${MOIRA_CCACHE})
    endif()
  endforeach()
endif()

set(MOIRA_SANITIZE "" CACHE STRING "Sanitizers, as for -fsanitize=")

add_library(moira_options INTERFACE)
target_include_directories(moira_options INTERFACE $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}>)
target_compile_options(moira_options INTERFACE -Wall -Wextra -Wpedantic -Wshadow -Wnon-virtual-dtor -Werror)
# Asio decides per translation unit, by include order, whether aligned allocation exists; units that disagree mix
# allocators. Everybody says no.
target_compile_definitions(moira_options INTERFACE ASIO_STANDALONE ASIO_NO_DEPRECATED ASIO_DISABLE_STD_ALIGNED_ALLOC)
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 13)
  # GCC 12 reports overlapping copies in std::string's own operator+ (its bug 105651).
  target_compile_options(moira_options INTERFACE -Wno-restrict)
endif()
# Contraction would let the compiler choose where to round: row-exact kernels write fma where they mean it.
target_compile_options(moira_options INTERFACE -ffp-contract=off)

if(MOIRA_SANITIZE)
  add_compile_options(
    "$<$<COMPILE_LANGUAGE:C,CXX>:-fsanitize=${MOIRA_SANITIZE};-fno-omit-frame-pointer;-fno-sanitize-recover=all>")
  if(MOIRA_SANITIZE MATCHES "undefined")
    # CAF's headers bind references through null handles on purpose.
    add_compile_options("$<$<COMPILE_LANGUAGE:C,CXX>:-fno-sanitize=null>")
  endif()
  add_link_options(-fsanitize=${MOIRA_SANITIZE})
endif()
