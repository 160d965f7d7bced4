moira_test(line_protocol line_protocol_test.cpp request_json_test.cpp api_keys_test.cpp
  LIBRARIES moira_line_protocol LABELS fast)
moira_test(tcp_server tcp_server_test.cpp tcp_client.cpp fake_runtime.cpp
  LIBRARIES moira_tcp_server moira_line_protocol Threads::Threads LABELS fast)
moira_test(early_server early_server_test.cpp http_replies.cpp tcp_client.cpp fake_runtime.cpp
  LIBRARIES moira_tcp_server Threads::Threads LABELS fast)
moira_test(http_session http_session_test.cpp openai_json_test.cpp http_replies.cpp
  LIBRARIES moira_http_protocol LABELS fast)
moira_test(http_server http_server_test.cpp http_replies.cpp tcp_client.cpp fake_runtime.cpp
  LIBRARIES moira_tcp_server Threads::Threads LABELS fast)
moira_test(tcp_gateway tcp_gateway_test.cpp http_replies.cpp tcp_client.cpp
  LIBRARIES moira_actors moira_dep_json CAF::core LABELS fast)
moira_test(load_client load_client_test.cpp load_protocol_test.cpp told_statistics_test.cpp fake_runtime.cpp
  LIBRARIES moira_load_client moira_tcp_server Threads::Threads LABELS fast)
