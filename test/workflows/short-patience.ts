import type { WorkflowInterceptors } from '@temporalio/workflow'

/** Nobody listens on this node's queue, ever. */
export const ABSENT_NODE = 'absent'

/** Two minutes without a worker are two seconds and a half here, so that the test can see them end. */
export function interceptors(): WorkflowInterceptors {
  return {
    outbound: [
      {
        scheduleActivity(input, next) {
          if (input.options.taskQueue !== `node/${ABSENT_NODE}`) return next(input)
          return next({ ...input, options: { ...input.options, scheduleToStartTimeout: '200 ms' } })
        },
      },
    ],
  }
}
