# The gateways: protocol and server are libraries without CAF, so that each is tested alone.
add_library(moira_line_protocol STATIC api_keys.cpp line_protocol.cpp reply_json.cpp request_json.cpp request_parse.cpp)
target_link_libraries(moira_line_protocol PUBLIC moira_base moira_batch moira_experts moira_text moira_dep_json)

add_library(moira_tcp_server STATIC tcp_connection.cpp tcp_listener.cpp tcp_server.cpp)
target_link_libraries(moira_tcp_server PUBLIC moira_line_protocol PRIVATE moira_dep_asio Threads::Threads)

# The one file that joins them with CAF; it belongs to moira_actors.
set(MOIRA_GATEWAY_SOURCES tcp_gateway.cpp)

# The load generator's side of the same protocols, for `moira bench serve`; no CAF either.
add_library(moira_load_client STATIC
  http_load_protocol.cpp http_reply_reader.cpp load_client.cpp load_connection.cpp load_protocol.cpp)
target_link_libraries(moira_load_client PUBLIC moira_line_protocol PRIVATE moira_dep_asio Threads::Threads)
