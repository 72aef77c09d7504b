// A Kubernetes cluster on Azure for the chart in deploy/helm/tercet: a small pool for the system, one for servers that
// grows and shrinks, KEDA, a registry that the cluster may pull from.
//
//   az deployment group create --resource-group tercet --template-file deploy/azure/aks.bicep
//     --parameters registry=REGISTRY
//
// Not deployed by us: the file was parsed and its names were checked, no more. docs/guides/clouds.md says what to look at.

@description('Name of the cluster and of what belongs to it.')
@minLength(3)
@maxLength(24)
param name string = 'tercet'

param location string = resourceGroup().location

@description('Name of the container registry to make: 5 to 50 letters and digits that nobody else has.')
@minLength(5)
@maxLength(50)
param registry string

@description('Machines of the servers. Dpdsv6 are Arm, Ddsv6 x86-64 with AMX; the image is made for both.')
param serverSize string = 'Standard_D4ds_v6'

@minValue(1)
param minServers int = 1

@minValue(1)
param maxServers int = 5

resource images 'Microsoft.ContainerRegistry/registries@2023-07-01' = {
  name: registry
  location: location
  sku: {
    name: 'Basic'
  }
  properties: {
    adminUserEnabled: false
  }
}

resource cluster 'Microsoft.ContainerService/managedClusters@2024-09-01' = {
  name: name
  location: location
  identity: {
    type: 'SystemAssigned'
  }
  sku: {
    name: 'Base'
    tier: 'Standard'
  }
  properties: {
    dnsPrefix: name
    enableRBAC: true
    disableLocalAccounts: false
    agentPoolProfiles: [
      {
        name: 'system'
        mode: 'System'
        count: 1
        vmSize: 'Standard_D2ds_v5'
        osSKU: 'AzureLinux'
        nodeTaints: ['CriticalAddonsOnly=true:NoSchedule']
      }
      {
        name: 'servers'
        mode: 'User'
        count: minServers
        minCount: minServers
        maxCount: maxServers
        enableAutoScaling: true
        vmSize: serverSize
        osSKU: 'AzureLinux'
      }
    ]
    networkProfile: {
      networkPlugin: 'azure'
      networkPluginMode: 'overlay'
      networkDataplane: 'cilium'
      networkPolicy: 'cilium'
    }
    workloadAutoScalerProfile: {
      keda: {
        enabled: true
      }
    }
    autoUpgradeProfile: {
      upgradeChannel: 'stable'
      nodeOSUpgradeChannel: 'NodeImage'
    }
    securityProfile: {
      workloadIdentity: {
        enabled: true
      }
      imageCleaner: {
        enabled: true
        intervalHours: 168
      }
    }
    oidcIssuerProfile: {
      enabled: true
    }
  }
}

// AcrPull for the nodes.
resource pull 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(images.id, cluster.id, 'pull')
  scope: images
  properties: {
    principalId: cluster.properties.identityProfile.kubeletidentity.objectId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', '7f951dda-4ed3-4680-a7ca-43fe172d538d')
  }
}

output registryServer string = images.properties.loginServer
output credentials string = 'az aks get-credentials --resource-group ${resourceGroup().name} --name ${cluster.name}'
