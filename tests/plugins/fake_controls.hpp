#pragma once

#include "plugins/fake_device/fake_device.h"

#include <dlfcn.h>
#include <doctest/doctest.h>

namespace moira {

/// The fake device's controls, of the object that the plugin host opens, too.
inline const moira_fake_controls& controls() {
    static const moira_fake_controls* const table = [] {
        void* library = dlopen(MOIRA_TEST_PLUGINS "/fake_device.so", RTLD_NOW | RTLD_LOCAL);
        REQUIRE(library != nullptr);
        return reinterpret_cast<moira_fake_controls_function>(dlsym(library, MOIRA_FAKE_CONTROLS_SYMBOL))();
    }();
    return *table;
}

} // namespace moira
