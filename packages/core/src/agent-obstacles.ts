/** What stands between a session and one agent, each with its meaning. */
export const agentObstacles = {
  'other-resource-group': 'It is in another resource group.',
  'not-alive': 'It is not reachable.',
  'not-schedulable': 'It is closed for new sessions.',
  'egress-unenforced': 'It cannot keep kernels to the egress policy of the resource group.',
  'other-architecture': 'It has another processor architecture.',
  'not-designated': 'It is not one of the agents that the session has to be on.',
  'image-absent': 'It does not offer the image.',
  'lacks-resources': 'It has not enough free.',
  'kernel-limit': 'It holds as many kernels as it may.',
} as const;
export type AgentObstacle = keyof typeof agentObstacles;
