#pragma once

#include <string>
#include <string_view>

namespace moira {

/// A name from a hostile file as a message shows it: quoted, short, and not cut inside a UTF-8 character.
std::string shown_name(std::string_view name);

} // namespace moira
