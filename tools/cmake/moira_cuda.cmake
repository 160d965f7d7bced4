# CUDA plugins. MOIRA_CUDA: AUTO builds them where nvcc is found, ON insists, OFF does without. Everything else builds
# and is tested the same way in all three cases. AUTO leaves sanitized builds alone: nvcc's host pass knows no sanitizer.
set(MOIRA_CUDA AUTO CACHE STRING "Build the CUDA plugins: AUTO, ON or OFF")
set_property(CACHE MOIRA_CUDA PROPERTY STRINGS AUTO ON OFF)
set(MOIRA_CUDA_ENABLED OFF)

if(MOIRA_CUDA STREQUAL "ON" OR (MOIRA_CUDA STREQUAL "AUTO" AND NOT MOIRA_SANITIZE AND NOT MOIRA_FUZZ))
  include(CheckLanguage)
  # A toolkit that is not on the PATH is still found in its usual place.
  if(NOT CMAKE_CUDA_COMPILER AND NOT DEFINED ENV{CUDACXX} AND EXISTS /usr/local/cuda/bin/nvcc)
    set(CMAKE_CUDA_COMPILER /usr/local/cuda/bin/nvcc)
  endif()
  check_language(CUDA)
  if(CMAKE_CUDA_COMPILER)
    # Targets name their architectures themselves; this only keeps CMake from asking a device.
    if(NOT DEFINED CMAKE_CUDA_ARCHITECTURES)
      set(CMAKE_CUDA_ARCHITECTURES 80)
    endif()
    enable_language(CUDA)
    find_package(CUDAToolkit)
    if(CUDAToolkit_FOUND AND TARGET CUDA::cudart_static AND CMAKE_CUDA_COMPILER_VERSION VERSION_GREATER_EQUAL 12.8)
      set(MOIRA_CUDA_ENABLED ON)
    endif()
  endif()
  if(NOT MOIRA_CUDA_ENABLED AND MOIRA_CUDA STREQUAL "ON")
    message(FATAL_ERROR "MOIRA_CUDA=ON needs nvcc 12.8 or newer (sm_100a) with the static CUDA runtime; found "
      "\"${CMAKE_CUDA_COMPILER}\" ${CMAKE_CUDA_COMPILER_VERSION}. Name nvcc in CUDACXX, or set MOIRA_CUDA=AUTO.")
  endif()
elseif(NOT MOIRA_CUDA MATCHES "^(AUTO|OFF)$")
  message(FATAL_ERROR "MOIRA_CUDA is \"${MOIRA_CUDA}\"; expected AUTO, ON or OFF")
endif()
message(STATUS "CUDA plugins: ${MOIRA_CUDA_ENABLED} (MOIRA_CUDA=${MOIRA_CUDA})")

# moira_cuda_objects(name ARCHITECTURES archs SOURCES files.cu...): an object library of device code. Warnings are
# errors in both passes; what ptxas says about registers, spills and shared memory is kept beside each object file
# (tests/cuda reads it).
function(moira_cuda_objects name)
  cmake_parse_arguments(ARG "" "" "ARCHITECTURES;SOURCES" ${ARGN})
  add_library(${name} OBJECT ${ARG_SOURCES})
  target_include_directories(${name} PRIVATE ${PROJECT_SOURCE_DIR})
  set_target_properties(${name} PROPERTIES CUDA_STANDARD 17 CUDA_STANDARD_REQUIRED ON CUDA_EXTENSIONS OFF
    CUDA_ARCHITECTURES "${ARG_ARCHITECTURES}" CUDA_VISIBILITY_PRESET hidden POSITION_INDEPENDENT_CODE ON
    CUDA_COMPILER_LAUNCHER "${PROJECT_SOURCE_DIR}/tools/cmake/keep_ptxas_report;${MOIRA_CCACHE}")
  target_compile_options(${name} PRIVATE -Werror=all-warnings -Xcompiler=-Wall,-Wextra,-Werror -Xptxas=-v)
endfunction()
