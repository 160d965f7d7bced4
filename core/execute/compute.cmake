# The compute threads, what plugins get from the host, and what is known about the machine. No model in here, so that
# the plugin loader and its tests need nothing else.
add_library(moira_compute STATIC
  compute_pool.cpp
  cpu_quota.cpp
  device_facts.cpp
  gpu_facts.cpp
  op_provider.cpp
  plugin_host_services.cpp
  run_delay.cpp)
target_link_libraries(moira_compute PUBLIC moira_base Threads::Threads)
