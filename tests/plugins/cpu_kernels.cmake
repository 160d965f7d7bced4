# The CPU plugins, opened straight from their files.
moira_test(cpu_kernels cpu_plugin_session.cpp cpu_matrix_test.cpp cpu_expert_test.cpp cpu_attention_test.cpp
  cpu_attention_bf16_test.cpp
  cpu_row_test.cpp LIBRARIES Threads::Threads ${CMAKE_DL_LIBS} LABELS fast tsan)
foreach(plugin cpu_reference cpu_avx2 cpu_avx512)
  if(TARGET plugin_${plugin})
    add_dependencies(test_cpu_kernels plugin_${plugin})
  endif()
endforeach()
