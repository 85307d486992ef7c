// What can be done with a forwarder from any of its tabs.

// Elements for the head of a forwarder's page. `context.forwarder` is the forwarder.
export function actions(context) {
  return [];
}
