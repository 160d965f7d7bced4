/* A shared object that loads, and is no plugin. */
__attribute__((visibility("default"))) int nothing_to_see(void);
int nothing_to_see(void) { return 0; }
