# The gateways: protocols and server are libraries without CAF, so that each is tested alone.
add_library(moira_line_protocol STATIC api_keys.cpp line_protocol.cpp reply_json.cpp request_json.cpp request_parse.cpp
  text_question.cpp)
target_link_libraries(moira_line_protocol PUBLIC moira_base moira_batch moira_experts moira_text moira_dep_json)

# Beast is header-only and sees nothing of the sockets; http_parser.cpp alone includes it.
add_library(moira_http_protocol STATIC http_answers.cpp http_parser.cpp http_reply.cpp http_session.cpp metrics_text.cpp
  openai_json.cpp openai_reply.cpp)
target_link_libraries(moira_http_protocol PUBLIC moira_line_protocol PRIVATE moira_dep_beast)

add_library(moira_tcp_server STATIC early_server.cpp tcp_connection.cpp tcp_listener.cpp tcp_server.cpp)
target_link_libraries(moira_tcp_server PUBLIC moira_line_protocol moira_http_protocol PRIVATE moira_dep_asio Threads::Threads)

# The load generator's side of the same protocols, for `moira bench serve`; no CAF either.
add_library(moira_load_client STATIC
  http_load_protocol.cpp http_reply_reader.cpp load_client.cpp load_connection.cpp load_protocol.cpp told_statistics.cpp)
target_link_libraries(moira_load_client PUBLIC moira_line_protocol PRIVATE moira_dep_asio Threads::Threads)

# The files that join them with CAF; they belong to moira_actors.
set(MOIRA_GATEWAY_SOURCES gateway.cpp text_worker.cpp)
