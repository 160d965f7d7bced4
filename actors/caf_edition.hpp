#pragma once

#include <caf/all.hpp>

#include <type_traits>
#include <utility>

// Everything that depends on the CAF version (0.17.6) stands here.

namespace moira {

/// Spawns a stateful typed actor. Refuses aggregate states: CAF 0.17 built as C++20 initialises an aggregate whose first
/// member can be built from a pointer with `self`, silently.
template <class Handle, class State, caf::spawn_options Options = caf::no_spawn_options, class System, class Function,
          class... Arguments>
Handle spawn_part(System& system, Function function, Arguments&&... arguments) {
    static_assert(!std::is_aggregate_v<State>, "declare `State() = default;` or another constructor");
    return system.template spawn<Options>(function, std::forward<Arguments>(arguments)...);
}

/// Ends an actor ahead of what waits in its mailbox (send_exit would queue behind it).
template <class Actor>
void end_now(const Actor& target, caf::exit_reason reason) {
    const auto address = caf::actor_cast<caf::actor_addr>(target);
    caf::anon_send<caf::message_priority::high>(caf::actor_cast<caf::actor>(target), caf::exit_msg{address, reason});
}

}  // namespace moira
